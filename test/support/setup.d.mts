export declare const root: string;
export declare const cache: string;
export declare const pythonEnvironments: readonly [
  'celery-5.2',
  'celery-5.4',
  'celery-5.6',
  'celery-redbeat',
  'celery-flower',
  'rq-1.10',
  'rq-1.16',
  'rq-2.0',
  'rq-2.10',
  'rq-2.12',
  'rq-dashboard',
];
export declare class SetupError extends Error {}
export declare function ensureDependencies(): Promise<void>;
export declare function ensureBuild(): Promise<void>;
export declare function ensureVenv(name: string): Promise<string>;
export declare function ensureRedis(): Promise<string>;
export declare function ensureRabbit(): Promise<string>;
export declare function ensureRuby(): Promise<string>;
export declare function ensureChromium(): Promise<string | undefined>;
export declare function findChromium(): string | undefined;
export declare const chromiumHint: string;
export declare function venvPython(name: string): string;
export declare function findRedis(): string | undefined;
export declare function findRabbit(): string | undefined;
export declare function findRuby(): string | undefined;
export declare function findProgram(name: string): string | undefined;
