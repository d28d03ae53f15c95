import { isUtf8 } from 'node:buffer';
import * as json from '../../protocols/formats/json.ts';
import { pythonRepr } from '../../protocols/formats/python-repr.ts';
import { EXIT } from './exit.ts';
import { printable } from './printable.ts';

/** What a command has looked at: for a reader, and for `--json`. */
export interface Seen {
  readonly lines: readonly string[];
  readonly plain: unknown;
}

export function show({ lines, plain }: Seen, asJson: boolean | undefined, out: (text: string) => void): number {
  if (asJson === true) out(`${json.stringify(plain, { replace: losslessly })}\n`);
  else for (const line of lines) out(`${printable(line)}\n`);
  return EXIT.ok;
}

/**
 * What JSON has no form for: bytes are their text, or `{ base64 }` where they are not UTF-8; dates are ISO 8601; an object of another language is its
 * text as Python would show it.
 */
export function losslessly(value: object): unknown {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (!(value instanceof Uint8Array)) return pythonRepr(value);
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return isUtf8(bytes) ? bytes.toString() : { base64: bytes.toString('base64') };
}

/** One command on what is closed behind it. */
export async function closing<Api extends { close(): Promise<void> }>(
  api: Api,
  work: (api: Api) => Promise<number>,
): Promise<number> {
  try {
    return await work(api);
  } finally {
    await api.close();
  }
}
