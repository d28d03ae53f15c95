import { readFile } from 'node:fs/promises';
import type { Explanation, Field, Warning } from '../../protocols/explanation.ts';
import { ConfigError } from '../errors.ts';
import { EXIT } from './exit.ts';
import type { Output, System } from './system.ts';

/** `jobglot decode SYSTEM [FILE|-]`. Its exit code is 1 where the input is nothing of the system's. */
export async function decode(
  system: Pick<System, 'explain'>,
  file: string,
  flags: { readonly json?: boolean },
  output: Output,
): Promise<number> {
  const bytes = await read(file);
  const explanation = isBlank(bytes) ? NOTHING : await system.explain(bytes, new Date());
  output.out(flags.json === true ? `${JSON.stringify(explanation, undefined, 2)}\n` : render(explanation));
  return explanation.kind === 'unknown' ? EXIT.failure : EXIT.ok;
}

/** What redis-cli prints for a key that is not there is an empty line. */
const NOTHING: Explanation = {
  kind: 'unknown',
  summary: 'Nothing to explain: the input is empty. Is there such a key, and anything in it?',
  sections: [],
  warnings: [],
};

function isBlank(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0x0a || byte === 0x0d || byte === 0x20);
}

async function read(file: string): Promise<Uint8Array> {
  if (file === '-') {
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ConfigError(`cannot read ${file}: ${(cause as Error).message}`, { cause });
  }
}

/** An explanation as text for a person. */
export function render({ summary, sections, warnings }: Explanation): string {
  const lines = [summary];
  for (const { title, fields } of sections) {
    if (fields.length === 0) continue;
    lines.push('', title);
    const width = Math.min(24, Math.max(...fields.map(({ name }) => name.length)));
    for (const field of fields) lines.push(...fieldLines(field, width));
  }
  if (warnings.length > 0) {
    lines.push('', 'Warnings');
    for (const warning of warnings) lines.push(`  ${EFFECTS[warning.effect]} ${warning.text}`);
  }
  return `${lines.join('\n')}\n`;
}

const EFFECTS: Readonly<Record<Warning['effect'], string>> = {
  ends: '[ends a worker]  ',
  drops: '[message is lost]',
  breaks: '[goes wrong]     ',
  note: '[note]           ',
};

const LONGEST = 2000;
const COLUMN = 40;

function fieldLines({ name, value, meaning }: Field, width: number): readonly string[] {
  const cut =
    value.length > LONGEST ? `${value.slice(0, LONGEST)}… (${value.length} characters; --json shows all)` : value;
  const start = `  ${name.padEnd(width)}  `;
  if (meaning === '') return [`${start}${cut}`];
  if (cut.length <= COLUMN) return [`${start}${cut.padEnd(COLUMN)}  ${meaning}`];
  return [`${start}${cut}`, `${' '.repeat(start.length + COLUMN)}  ${meaning}`];
}
