// Puts the example files into the README between its ts fences: node test/examples/render-readme.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { shown } from './shown.mjs';

const here = new URL('.', import.meta.url);
const readme = new URL('../../README.md', here);
let text = readFileSync(readme, 'utf8');
for (const name of shown) {
  const code = readFileSync(new URL(`${name}.ts`, here), 'utf8').trimEnd();
  const block = new RegExp(`\`\`\`ts\\n(?:${name.toUpperCase()}|// ${name}\\.ts[\\s\\S]*?)\\n\`\`\``);
  if (!block.test(text)) throw new Error(`README.md has no block for ${name}.ts`);
  text = text.replace(block, () => `\`\`\`ts\n${code}\n\`\`\``);
}
writeFileSync(readme, text);
