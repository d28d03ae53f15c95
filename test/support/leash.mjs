/**
 * Keeps processes from outliving the one that started them, even when that one is killed with SIGKILL: a small shell holds
 * the list, and when its stdin closes it kills and removes what is left on it.
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';

const keeper = `
trap '' INT TERM HUP
held=
while read -r op target; do
  case $op in
    hold) held="$held $target" ;;
    folder) set -- "$@" "$target" ;;
    free) rest=; for one in $held; do [ "$one" = "$target" ] || rest="$rest $one"; done; held=$rest ;;
  esac
done
for one in $held; do kill -9 "$one" 2>/dev/null; done
for one; do rm -rf "$one"; done
`;

/** @type {import('node:child_process').ChildProcess | undefined} */
let leash;
/** @type {Set<number>} */
const held = new Set();
/** @type {Set<string>} */
const folders = new Set();

/**
 * Kill `child` when this process ends, however it ends. With `group`, kill its process group (the child must have been
 * spawned with `detached: true`).
 * @param {import('node:child_process').ChildProcess} child @param {{ group?: boolean }} [options]
 */
export function hold(child, options = {}) {
  if (child.pid === undefined) return;
  const target = options.group === true ? -child.pid : child.pid;
  held.add(target);
  tell(`hold ${target}`);
  child.once('exit', () => {
    // A group may outlive its leader.
    if (target < 0) killQuietly(target);
    held.delete(target);
    tell(`free ${target}`);
  });
}

/** Remove this folder when this process ends, however it ends. @param {string} folder */
export function holdFolder(folder) {
  folders.add(folder);
  tell(`folder ${folder}`);
}

/** @param {string} line */
function tell(line) {
  if (leash === undefined) {
    leash = spawn('/bin/sh', ['-c', keeper, 'leash'], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    leash.unref();
    /** @type {import('node:net').Socket} */ (leash.stdin).unref();
    leash.stdin?.on('error', () => {});
    process.once('exit', () => {
      for (const target of held) killQuietly(target);
      for (const folder of folders) removeQuietly(folder);
    });
  }
  leash.stdin?.write(`${line}\n`);
}

/** @param {number} target */
function killQuietly(target) {
  try {
    process.kill(target, 'SIGKILL');
  } catch {
    // Gone already.
  }
}

/** @param {string} folder */
function removeQuietly(folder) {
  try {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  } catch {
    // It is in the temporary folder; the system will.
  }
}
