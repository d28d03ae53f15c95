/** A Redis round trip as data: what to send, and how to read the answer. */

export type Command = readonly [name: string, ...args: readonly (string | number | Uint8Array)[]];

/**
 * One round trip. A transport sends `commands` in order (in MULTI when `atomic`) and hands the replies to `read`.
 * Replies arrive as they are on the wire: bulk strings as Buffers, integers as numbers, nil as null.
 * An Exchange without commands sends nothing.
 */
export interface Exchange<Reply> {
  readonly commands: readonly Command[];
  readonly atomic: boolean;
  readonly read: (replies: readonly unknown[]) => Reply;
}

/** A Lua script with the number of its keys. A transport sends it as EVALSHA, and as EVAL when the server has lost it. */
export interface Script {
  readonly name: string;
  readonly keys: number | 'variable';
  readonly lua: string;
}

/** `EVAL` as a command. The transport recognises the script by its text and sends its hash. */
export function callScript(
  script: Script,
  keys: readonly string[],
  args: readonly (string | number | Uint8Array)[],
): Command {
  return ['EVAL', script.lua, keys.length, ...keys, ...args];
}
