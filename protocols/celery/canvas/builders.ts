import {
  composite,
  listOf,
  mapOf,
  NOTHING,
  readSignature,
  type Signature,
  signatureToMap,
  tasksOf,
  unique,
  withOption,
} from './signature.ts';

/**
 * Signatures put together by who writes them down, as Python's objects do it: `|`, `link`, `link_error`, `set_immutable`. What
 * joins running tasks is in joins.ts. Source: celery/canvas.py `__or__`, `link`, `link_error` of each type (5.6).
 */

/** A chain of these steps: `a | b | c`, beginning with an empty chain. Source: chain.__new__. */
export function chainOf(steps: readonly Signature[]): Signature {
  const [first, ...rest] = steps;
  if (first === undefined) return chained([]);
  if (rest.length === 0) return first.subtaskType === 'chain' ? first : chained([signatureToMap(first)]);
  return isPlain(first) ? rest.reduce(pipe, first) : steps.reduce(pipe, chained([]));
}

/** `signature | next`. */
export function pipe(signature: Signature, next: Signature): Signature {
  switch (signature.subtaskType) {
    case 'chain':
      return pipeChain(signature, next);
    case 'group':
      return chordWith(listOf(signature.kwargs.get('tasks')), next);
    case 'chord': {
      const following = unrolled(next);
      if (following.subtaskType === 'group' || next.subtaskType === 'chain') return pipeTask(signature, next);
      return withBody(signature, (body) => pipe(body, following));
    }
    default:
      return pipeTask(signature, next);
  }
}

/** A chord of these members. Source: _chord.__init__. */
export function chordWith(header: readonly unknown[], body: Signature): Signature {
  const kwargs = new Map<string, unknown>([
    ['kwargs', NOTHING],
    ['header', header],
    ['body', signatureToMap(body)],
  ]);
  return composite('chord', kwargs, NOTHING);
}

/**
 * Adds what is called with the result: of a chain with that of its last step, of a chord with that of its body. Of a group it is
 * called, without a result, when the first member ends.
 */
export function link(signature: Signature, callback: Signature): Signature {
  switch (signature.subtaskType) {
    case 'group': {
      const [first, ...others] = tasksOf(signature);
      if (first === undefined) return signature;
      const told = signatureToMap(link(readSignature(first), immutable(callback)));
      return { ...signature, kwargs: new Map(signature.kwargs).set('tasks', [told, ...others]) };
    }
    case 'chord':
      return withBody(signature, (body) => link(body, callback));
    default:
      return withOption(signature, 'link', unique(signature.options.get('link'), [signatureToMap(callback)]));
  }
}

/**
 * Adds what is called when a task fails: any step of a chain, any member of a group, the body of a chord. Its header has errbacks
 * of its own, as in Celery by default (`task_allow_error_cb_on_chord_header`).
 */
export function linkError(signature: Signature, errback: Signature): Signature {
  switch (signature.subtaskType) {
    case 'group': {
      // Python means the errback to be immutable here, and says so in its options, where it is not looked for.
      const told = { ...errback, options: new Map(errback.options).set('immutable', true) };
      return withTasks(signature, 'tasks', (member) => linkError(member, told));
    }
    case 'chord': {
      const told = withTasks(signature, 'header', (member) =>
        member.subtaskType === 'chord' ? linkError(member, errback) : member,
      );
      return withBody(told, (body) => linkError(body, errback));
    }
    default:
      return withOption(
        signature,
        'link_error',
        unique(signature.options.get('link_error'), [signatureToMap(errback)]),
      );
  }
}

/** Takes nothing from what goes before it: a task, each member of a group, of a chord's header, the first step of a chain. */
export function immutable(signature: Signature): Signature {
  switch (signature.subtaskType) {
    case 'chain': {
      const [first, ...others] = tasksOf(signature);
      if (first === undefined) return signature;
      const fixed = signatureToMap(immutable(readSignature(first)));
      return { ...signature, kwargs: new Map(signature.kwargs).set('tasks', [fixed, ...others]) };
    }
    case 'group':
      return withTasks(signature, 'tasks', immutable);
    case 'chord':
      return withTasks(signature, 'header', immutable);
    default:
      return { ...signature, immutable: true };
  }
}

function pipeTask(signature: Signature, next: Signature): Signature {
  const following = next.subtaskType === 'chain' ? unchained(next) : [signatureToMap(unrolled(next))];
  return chained([signatureToMap(signature), ...following]);
}

function pipeChain(chain: Signature, next: Signature): Signature {
  if (next.subtaskType === 'chain') return unchained(next).map(readSignature).reduce(pipe, chain);
  const following = unrolled(next);
  if (following !== next) return pipe(chain, following);
  const tasks = tasksOf(chain);
  const last = tasks.length === 0 ? undefined : readSignature(tasks.at(-1));
  if (next.subtaskType === 'group') {
    if (last === undefined) return next;
    const steps = unchained(chain);
    if (last.subtaskType !== 'chord') return chained([...steps, signatureToMap(next)]);
    const extended = withBody(readSignature(steps.at(-1)), (body) => pipe(body, next));
    return chained([...steps.slice(0, -1), signatureToMap(extended)]);
  }
  if (last?.subtaskType === 'group') {
    const chord = chordWith(tasksOf(last), next);
    const previous = tasks.length === 1 ? undefined : readSignature(tasks.at(-2));
    if (previous?.subtaskType !== 'chord') return withSteps(chain, [...tasks.slice(0, -1), signatureToMap(chord)]);
    const extended = withBody(previous, (body) => pipe(body, chord));
    return withSteps(chain, [...tasks.slice(0, -2), signatureToMap(extended)]);
  }
  if (last?.subtaskType === 'chord' && next.subtaskType !== 'chord') {
    const extended = withBody(last, (body) => pipe(body, next));
    return withSteps(chain, [...tasks.slice(0, -1), signatureToMap(extended)]);
  }
  return chained([...unchained(chain), signatureToMap(next)]);
}

/** The steps of a chain, with its links and errbacks given to them. Source: _chain.unchain_tasks. */
function unchained(chain: Signature): readonly unknown[] {
  const links = listOf(chain.options.get('link')).map(readSignature);
  const errbacks = listOf(chain.options.get('link_error')).map(readSignature);
  if (links.length === 0 && errbacks.length === 0) return tasksOf(chain);
  const tasks = tasksOf(chain).map(readSignature);
  const last = tasks.at(-1);
  if (last !== undefined) tasks[tasks.length - 1] = links.reduce(link, last);
  return tasks.map((task) => signatureToMap(errbacks.reduce(linkError, task)));
}

/** A chain of several tasks and nothing else: putting it together again would make the same. */
function isPlain(signature: Signature): boolean {
  if (signature.subtaskType !== 'chain' || signature.options.size > 0) return false;
  const tasks = tasksOf(signature);
  return tasks.length > 1 && tasks.every((task) => (mapOf(task)?.get('subtask_type') ?? null) === null);
}

/** A group of one is its member. Source: maybe_unroll_group. */
function unrolled(signature: Signature): Signature {
  if (signature.subtaskType !== 'group') return signature;
  const tasks = tasksOf(signature);
  return tasks.length === 1 ? readSignature(tasks[0]) : signature;
}

function chained(tasks: readonly unknown[]): Signature {
  return withSteps(composite('chain', NOTHING, NOTHING), tasks);
}

function withSteps(chain: Signature, tasks: readonly unknown[]): Signature {
  return { ...chain, kwargs: new Map(chain.kwargs).set('tasks', tasks) };
}

function withBody(chord: Signature, change: (body: Signature) => Signature): Signature {
  const body = signatureToMap(change(readSignature(chord.kwargs.get('body'))));
  return { ...chord, kwargs: new Map(chord.kwargs).set('body', body) };
}

/** With each task of a list in its arguments changed; the header of a chord may also be a group. */
function withTasks(signature: Signature, name: 'tasks' | 'header', change: (task: Signature) => Signature): Signature {
  const tasks = signature.kwargs.get(name);
  const changed = Array.isArray(tasks)
    ? tasks.map((task) => signatureToMap(change(readSignature(task))))
    : signatureToMap(withTasks(readSignature(tasks), 'tasks', change));
  return { ...signature, kwargs: new Map(signature.kwargs).set(name, changed) };
}
