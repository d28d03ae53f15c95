/**
 * Converts a JavaScript stack to a Python traceback, most recent call last; null when it has no frames. Under each `File` line, where Python shows
 * the source line, is the frame as V8 writes it. Causes come first, as in Python. A traceback that already has Python's form is kept. `lastLine` is
 * the raised error: `ValueError: no such thing`.
 */
export function pythonTraceback(stack: string, lastLine: string): string | null {
  if (stack.startsWith(HEADER)) return stack.endsWith('\n') ? stack : `${stack}\n`;
  const [own = '', ...causes] = stack.split(/^Caused by: /m);
  const blocks: string[] = [];
  for (const cause of causes.reverse()) blocks.push(block(cause, heading(cause)));
  const frames = framesOf(own);
  blocks.push(`${HEADER}\n${frames}${lastLine}\n`);
  return frames === '' ? null : blocks.join(CAUSED);
}

const HEADER = 'Traceback (most recent call last):';
const CAUSED = '\nThe above exception was the direct cause of the following exception:\n\n';
// `at charge (file:///app/shop.js:12:9)`, `at async /app/shop.js:12:9`, `at new Cart (node:internal/x:1:2)`
const FRAME = /^\s+at (?:async )?(?:(.+?) \()?(.+?):(\d+):\d+\)?$/;

function block(stack: string, last: string): string {
  return `${HEADER}\n${framesOf(stack)}${last}\n`;
}

function heading(stack: string): string {
  const end = stack.search(/\n\s+at /);
  return (end === -1 ? stack : stack.slice(0, end)).trimEnd();
}

function framesOf(stack: string): string {
  let frames = '';
  for (const line of stack.split('\n')) {
    // A line this long is part of a message, not a frame.
    const match = line.length > 1000 ? null : FRAME.exec(line);
    if (match === null) continue;
    const [, name = '<anonymous>', file = '', number = '1'] = match;
    frames = `  File "${file.replace(/^file:\/\//, '')}", line ${number}, in ${name}\n    ${line.trim()}\n${frames}`;
  }
  return frames;
}
