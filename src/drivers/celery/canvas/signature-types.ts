import type { AsyncResult, GroupResult } from '../client/async-result.ts';

/** The types of signatures: the arguments that a signature still needs, and its result. They exist only at compile time. */

/** A call as data: `{ task: 'proj.add', args: [2] }`. Members that are left out count as empty. */
export interface SignatureLike {
  readonly task: string;
  readonly args?: readonly unknown[];
  readonly kwargs?: Readonly<Record<string, unknown>>;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly subtask_type?: string | null;
  readonly immutable?: boolean;
}

declare const types: unique symbol;

/**
 * A call or a workflow as data, in Celery's wire form. `Start` is the type of the arguments that its first tasks take. `Receipt` is the type that
 * `client.apply` returns for it.
 */
export interface Signature<
  Start = unknown,
  Receipt = unknown,
  Type extends string | null = string | null,
> extends SignatureLike {
  readonly args: readonly unknown[];
  readonly kwargs: Readonly<Record<string, unknown>>;
  /** Under Celery's names. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly subtask_type: Type;
  readonly immutable: boolean;
  readonly [types]?: { readonly start: Start; readonly receipt: Receipt };
}

/** A signature of any task or workflow. */
export type AnySignature = Signature;

/** A task with its last arguments already given (`has`). If it is `fixed`, it takes no others. */
export interface Awaiting<A extends readonly unknown[], S extends readonly unknown[], F extends boolean = false> {
  readonly takes: A;
  readonly has: S;
  readonly fixed: F;
}

/** The type in the compiler's error when a step does not take the result of the step before it. */
export interface Mismatch<Given> {
  readonly 'does not take what it is given': Given;
}

export type StartOf<C> = C extends Signature<infer S> ? S : never;

/** The type that `client.apply` returns: an AsyncResult or a GroupResult. */
export type ReceiptOf<C> = C extends Signature<unknown, infer R> ? R : never;
/** The type of a workflow's result. */
export type ResultOf<C> = ReceiptOf<C> extends { get(): Promise<infer R> } ? R : unknown;

/** The possible ends of a parameter list. Arguments may be given from the end while the first ones are not known yet. */
export type Suffixes<A extends readonly unknown[]> = number extends A['length']
  ? readonly A[number][]
  : A extends readonly []
    ? readonly []
    : A extends readonly [_?: unknown, ...rest: infer T]
      ? Readonly<A> | Suffixes<T>
      : never;

// With several starts (the members of a group), each must fit.
type Fits<Start, Given extends readonly unknown[]> =
  Start extends Awaiting<infer A, infer S, infer F>
    ? (F extends true ? [...S] : [...Given, ...S]) extends A
      ? true
      : false
    : true;

/** `unknown` if `C` takes these arguments in front of its own, so that nothing is added to its type; otherwise a type that no signature has. */
export type Taking<C, Given extends readonly unknown[]> = [Fits<StartOf<C>, Given>] extends [true]
  ? unknown
  : Mismatch<Given>;

// An unknown result may be of any type, so every step takes it.
type Known<R> = unknown extends R ? never : R;

type IsGroup<C> = C extends { readonly subtask_type: 'group' } ? true : false;

/** The receipt of a step of a chain. A group of one member becomes that member. For a list, only its length at run time tells which case applies. */
type StepReceipt<C> =
  IsGroup<C> extends true
    ? ReceiptOf<C> extends GroupResult<infer T>
      ? T extends readonly [infer Only]
        ? AsyncResult<Only>
        : number extends T['length']
          ? GroupResult<T> | AsyncResult<T[number]>
          : GroupResult<T>
      : ReceiptOf<C>
    : ReceiptOf<C>;
type Gives<C> = StepReceipt<C> extends { get(): Promise<infer R> } ? [Known<R>] : [never];

type Behind<T extends readonly unknown[]> = readonly [undefined, ...T];

/** The steps of a chain, each with the type that it must take. */
export type Steps<T extends readonly AnySignature[]> = {
  [I in keyof T]: T[I] & StepAfter<T[I], I extends keyof Behind<T> ? Behind<T>[I] : undefined>;
};
type StepAfter<C, Before> = Before extends AnySignature ? Taking<C, Gives<Before>> : unknown;

type Last<T extends readonly unknown[]> = T extends readonly [...unknown[], infer L] ? L : T[number];

export type Chain<T extends readonly AnySignature[]> = Signature<StartOf<T[0]>, StepReceipt<Last<T>>, 'chain'>;
export type Group<T extends readonly AnySignature[]> = Signature<StartOf<T[number]>, GroupResult<Results<T>>, 'group'>;
export type Chord<T extends readonly AnySignature[], B> = Signature<StartOf<T[number]>, ReceiptOf<B>, 'chord'>;
export type MapOf<R> = Signature<Awaiting<[], [], true>, AsyncResult<R[]>, null>;
export type Chunks<R> = Signature<Awaiting<[], [], true>, GroupResult<R[][]>, 'group'>;

/** The header of a chord. */
export type Members<T extends readonly AnySignature[]> = readonly [...T] | Group<T>;

/** The results of the members of a group. If a member is a group, its results are listed among them. */
export type Results<T extends readonly AnySignature[]> =
  true extends IsGroup<T[number]> ? Melted<T> : { -readonly [I in keyof T]: ResultOf<T[I]> };
type Melted<T extends readonly AnySignature[]> = T extends readonly []
  ? []
  : T extends readonly [infer H extends AnySignature, ...infer Rest extends readonly AnySignature[]]
    ? [...ResultsOfMember<H>, ...Melted<Rest>]
    : ResultsOfMember<T[number]>[number][];
type ResultsOfMember<C> =
  IsGroup<C> extends true ? (ResultOf<C> extends infer L extends readonly unknown[] ? L : unknown[]) : [ResultOf<C>];

/** The same signature, but it takes no result from the step before it. */
export type Fixed<C> =
  C extends Signature<infer Start, infer Receipt, infer Type> ? Signature<FixedStart<Start>, Receipt, Type> : never;
type FixedStart<Start> = Start extends Awaiting<infer A, infer S, boolean> ? Awaiting<A, S, true> : Start;

/** Lists of arguments. */
export type Items<A extends readonly unknown[]> = readonly Readonly<A>[];
