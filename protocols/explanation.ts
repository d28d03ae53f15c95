/** Describes stored bytes of a system in words, for a person who inspects a broker. `unknown`: the bytes are not in a format of the system. */
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
 * What effect a message has. `ends`: one of the system's own workers that takes the message exits, or stops consuming. `drops`: the message is
 * acknowledged or rejected without a result. `breaks`: something else goes wrong. `note`: worth knowing.
 */
export interface Warning {
  readonly effect: 'ends' | 'drops' | 'breaks' | 'note';
  readonly text: string;
}
