import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { ConfigError } from '../errors.ts';

/** Parsing that all broker URLs share, as Python does it. */

/** The URL with its password hidden. `endOfUser` is the index of the `@` in what follows `://`, or -1. */
export function maskUrl(url: string, endOfUser: (scheme: string, address: string) => number): string {
  const [, scheme = '', address = '', query = ''] = /^([^:]*):\/\/([^?]*)(.*)$/s.exec(url) ?? [];
  const at = endOfUser(scheme.toLowerCase(), address);
  if (at < 0) return url;
  const [user, password] = splitOnce(address.slice(0, at), ':');
  return `${scheme}://${password === undefined ? '**' : `${user}:**`}${address.slice(at)}${query}`;
}

/** Percent-decodes as Python does: a text that is not an escape stays as it is. */
export function unquote(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escapes) => {
    try {
      return decodeURIComponent(escapes);
    } catch {
      return escapes;
    }
  });
}

/**
 * `ssl_*` of the query, with Python's names: ssl_cert_reqs none|optional|required, ssl_ca_certs, ssl_certfile, ssl_keyfile,
 * ssl_check_hostname. Throws ConfigError for a file that cannot be read.
 */
export function tlsOptions(
  system: string,
  query: URLSearchParams,
  masked: string,
): Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized' | 'checkServerIdentity'> {
  const file = (name: string): Buffer | undefined => {
    const path = query.get(name);
    if (path === null) return undefined;
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new ConfigError(`${system}: '${masked}': ${name} cannot be read: ${path}`, { cause });
    }
  };
  const ca = file('ssl_ca_certs');
  const cert = file('ssl_certfile');
  const key = file('ssl_keyfile');
  const needs = (query.get('ssl_cert_reqs') ?? 'required').toLowerCase().replace('cert_', '');
  if (!['required', 'optional', 'none'].includes(needs)) {
    throw new ConfigError(`${system}: '${masked}': ssl_cert_reqs must be required, optional or none, not '${needs}'`);
  }
  const check = (query.get('ssl_check_hostname') ?? 'true').toLowerCase() !== 'false';
  return {
    // For a client, Python's CERT_OPTIONAL means CERT_REQUIRED.
    rejectUnauthorized: needs !== 'none',
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(check ? {} : { checkServerIdentity: () => undefined }),
  };
}

/** The text before the first separator, and the one after it where there is one. */
export function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}
