import * as json from '../../protocols/formats/json.ts';
import { EXIT } from './exit.ts';
import { printable } from './printable.ts';

/** What a command has looked at: for a reader, and for `--json`. */
export interface Seen {
  readonly lines: readonly string[];
  readonly plain: unknown;
}

export function show({ lines, plain }: Seen, asJson: boolean | undefined, out: (text: string) => void): number {
  if (asJson === true) out(`${json.stringify(plain, { replace: plainly })}\n`);
  else for (const line of lines) out(`${printable(line)}\n`);
  return EXIT.ok;
}

/** Bytes as their text, dates as ISO 8601. */
function plainly(value: object): unknown {
  if (value instanceof Date) return value.toISOString();
  return value instanceof Uint8Array ? Buffer.from(value).toString() : undefined;
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
