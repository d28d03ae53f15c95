export const shown: readonly string[];
export const linked: readonly string[];
