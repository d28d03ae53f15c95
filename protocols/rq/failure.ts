/**
 * What a failed run left as text, taken apart: a Python traceback, or a sentence of RQ's own.
 *
 *     Traceback (most recent call last):
 *       File "...", line 7, in charge
 *     shop.errors.OutOfStock: none left
 */
export interface ReadFailure {
  /** The class, without its module: `OutOfStock`. */
  readonly type: string;
  /** `shop.errors`, or `builtins` where Python leaves it out. */
  readonly module: string | undefined;
  readonly message: string;
}

/** Takes the text of a failure apart. What is neither a traceback nor one of RQ's sentences is a message of the type that it names. Never throws. */
export function readFailure(text: string): ReadFailure {
  const trimmed = text.trimEnd();
  if (/^\s*(?:Traceback \(most recent call last\)|File "):?/.test(trimmed) || /\n {2,}(?:File "|at )/.test(trimmed)) {
    const raised = exceptionText(trimmed);
    if (raised !== undefined) return raised;
  }
  // rq/registry.py, rq/worker/base.py and rq/intermediate_queue.py say it in words.
  const named = /\b((?:[A-Z]\w*)(?:Error|Exception))\b/.exec(trimmed)?.[1];
  return { type: named ?? 'JobFailed', module: named === undefined ? undefined : 'rq.exceptions', message: trimmed };
}

/** What stands behind the last frame. A message may have lines of its own, and they may be indented. */
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
