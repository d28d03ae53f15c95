import type { ChildProcess } from 'node:child_process';

export declare function hold(child: ChildProcess, options?: { readonly group?: boolean }): void;
export declare function holdFolder(folder: string): void;
