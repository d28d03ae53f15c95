/**
 * The parsed text of a failed run: a Python traceback, or a sentence of RQ's own.
 *
 *     Traceback (most recent call last):
 *       File "...", line 7, in charge
 *     shop.errors.OutOfStock: none left
 */
export interface ReadFailure {
  /** The class, without its module: `OutOfStock`. */
  readonly type: string;
  /** `shop.errors`, or `builtins` if Python leaves the module out. */
  readonly module: string | undefined;
  readonly message: string;
}

/** Parses the text of a failure. If it is not a traceback, the whole text is the message, and the type is the error class that it names. Never throws. */
export function readFailure(text: string): ReadFailure {
  const trimmed = text.trimEnd();
  if (/^\s*(?:Traceback \(most recent call last\)|File "):?/.test(trimmed) || /\n {2,}(?:File "|at )/.test(trimmed)) {
    const raised = exceptionText(trimmed);
    if (raised !== undefined) return raised;
  }
  // rq/registry.py, rq/worker/base.py and rq/intermediate_queue.py write a sentence instead of a traceback.
  const named = /\b((?:[A-Z]\w*)(?:Error|Exception))\b/.exec(trimmed)?.[1];
  return { type: named ?? 'JobFailed', module: named === undefined ? undefined : 'rq.exceptions', message: trimmed };
}

/** The text after the last frame. A message may have several lines, and they may be indented. */
function exceptionText(text: string): ReadFailure | undefined {
  const lines = text.split('\n');
  const lastFrame = lines.findLastIndex((line) => /^ +(?:File "|at )/.test(line));
  for (let at = lastFrame + 1; at < lines.length; at++) {
    const [, name, message = ''] = EXCEPTION.exec(lines[at] as string) ?? [];
    if (name === undefined) continue;
    const dot = name.lastIndexOf('.');
    return {
      type: name.slice(dot + 1),
      module: dot === -1 ? 'builtins' : name.slice(0, dot),
      message: [message, ...lines.slice(at + 1)].join('\n'),
    };
  }
  return undefined;
}

const EXCEPTION = /^([\p{L}_][\p{L}\p{N}_]*(?:\.[\p{L}_<][\p{L}\p{N}_<>]*)*)(?:: (.*)|:)?$/u;
