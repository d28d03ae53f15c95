export interface Part {
  readonly needs: readonly string[];
  readonly maxWorkers: number;
  readonly retry?: number;
}
export declare const parts: Readonly<Record<string, Part>>;
export declare function testFiles(part: string): string[];
