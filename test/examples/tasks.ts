// tasks.ts: the contract, shared by whoever sends and whoever handles
import { defineTask } from 'jobglot';

export const add = defineTask<(x: number, y: number) => number>('proj.tasks.add');
export const total = defineTask<(numbers: readonly number[]) => number>('proj.tasks.total');
export const resize = defineTask<(key: string) => string, { width?: number }>('images.resize');
