/** A URL, or several with `;` between them, without its secrets: `redis://:**@host/0`. For banners and messages; never throws. */
export function maskUrl(url: string): string {
  return url.split(';').map(maskOne).join(';');
}

function maskOne(url: string): string {
  const match = /^(\s*[a-z][a-z0-9+.-]*:\/\/)?([^]*)$/i.exec(url);
  const scheme = match?.[1] ?? '';
  const rest = match?.[2] ?? '';
  if (/^\s*(?:file|filesystem|memory):/i.test(scheme)) return url;
  const question = rest.indexOf('?');
  const address = question < 0 ? rest : rest.slice(0, question);
  const query = question < 0 ? '' : rest.slice(question);
  // A password may hold a slash or an @ that nobody escaped: what is before the last @ is not shown.
  const at = address.lastIndexOf('@');
  const user = address.slice(0, Math.max(at, 0));
  const colon = user.indexOf(':');
  const shown = at < 0 ? '' : colon < 0 ? (scheme === '' ? user : '**') : `${user.slice(0, colon)}:**`;
  return `${scheme}${at < 0 ? address : `${shown}${address.slice(at)}`}${query.replaceAll(SECRET, '$1**')}`;
}

const SECRET = /([?&][^=&]*(?:password|passwd|secret|token)[^=&]*=)[^&]*/gi;
