// A process and everything below it, as /proc sees it: CPU used so far and memory held now.
import { readdirSync, readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';

const TICK_MICROS = 1e6 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** User + system microseconds of the tree, children that have already ended included. */
export function cpuMicros(root) {
  let ticks = 0;
  for (const { fields } of tree(root)) {
    // man proc_pid_stat: 14 utime, 15 stime, 16 cutime, 17 cstime; `fields` starts at number 3.
    ticks += Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14]);
  }
  return ticks * TICK_MICROS;
}

/** PSS (shared pages divided among those that share them) and RSS of the tree, in MiB. */
export function memoryMiB(root) {
  let pss = 0;
  let rss = 0;
  for (const { pid } of tree(root)) {
    const text = read(`/proc/${pid}/smaps_rollup`) ?? '';
    pss += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
    rss += Number(/^Rss:\s+(\d+)/m.exec(text)?.[1] ?? 0);
  }
  return { pssMiB: pss / 1024, rssMiB: rss / 1024 };
}

function tree(root) {
  const children = new Map();
  const all = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const text = read(`/proc/${name}/stat`);
    if (text === undefined) continue;
    const pid = Number(name);
    // The command name may hold spaces and parentheses: everything after the last one is fields 3 and up.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    all.set(pid, { pid, fields });
    const parent = Number(fields[1]);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = [];
  const open = [root];
  for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
    const one = all.get(pid);
    if (one === undefined) continue;
    found.push(one);
    open.push(...(children.get(pid) ?? []));
  }
  return found;
}

/** Undefined when the process ended meanwhile. */
function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
