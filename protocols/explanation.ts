/** What some bytes of a system are, in words: for a person who looks into a broker. `unknown`: they are nothing of the system's. */
export interface Explanation<Kind extends string = string> {
  readonly kind: Kind;
  readonly summary: string;
  readonly sections: readonly Section[];
  readonly warnings: readonly Warning[];
}

export interface Section {
  readonly title: string;
  readonly fields: readonly Field[];
}

export interface Field {
  readonly name: string;
  /** As JSON, which holds no control characters. */
  readonly value: string;
  readonly meaning: string;
}

/**
 * What a message leads to. `ends`: a worker of the system's own that takes it ends, or stops consuming. `drops`: it is acknowledged or rejected without
 * a result. `breaks`: something else goes wrong. `note`: worth knowing.
 */
export interface Warning {
  readonly effect: 'ends' | 'drops' | 'breaks' | 'note';
  readonly text: string;
}
