// What a figure was measured on: absolute figures mean nothing without it.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';

/** The machine as one flat object; `versions` are added by the bench. */
export function machine(versions) {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    loadBefore: Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]),
    node: process.versions.node,
    ...versions,
    date: new Date().toISOString(),
  };
}

/** The first version-like word a program prints. */
export function versionOf(file, args) {
  return /\d+(\.\d+)+/.exec(execFileSync(file, args, { encoding: 'utf8' }))?.[0] ?? 'unknown';
}

/** The version of an installed peer of this folder. */
export function peerVersion(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), 'utf8')).version;
}
