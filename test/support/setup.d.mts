export declare const root: string;
export declare const cache: string;
export declare const celeryVersions: readonly ['5.2', '5.4', '5.6'];
export declare class SetupError extends Error {}
export declare function ensureDependencies(): Promise<void>;
export declare function ensureBuild(): Promise<void>;
export declare function ensureVenv(version: string): Promise<string>;
export declare function ensureRedis(): Promise<string>;
export declare function ensureRabbit(): Promise<string>;
export declare function ensureRuby(): Promise<string>;
export declare function venvPython(version: string): string;
export declare function findRedis(): string | undefined;
export declare function findRabbit(): string | undefined;
export declare function findRuby(): string | undefined;
export declare function findProgram(name: string): string | undefined;
