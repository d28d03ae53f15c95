import type { Route } from '../../../../protocols/celery/message/call.ts';

/** The destination of a task, as in `task_routes`: a queue's name, or an exchange and a routing key. */
export type TaskRoute =
  | string
  | { readonly queue?: string; readonly exchange?: string; readonly routingKey?: string; readonly priority?: number };

/** A router function of `task_routes`. If it returns undefined, the next entry decides. */
export type TaskRouter = (task: string, args: readonly unknown[], kwargs: unknown) => TaskRoute | undefined;

/** A table, a router function, or a list of both. The first match wins. Keys are names, globs (`shop.*`) or regular expressions. */
export type TaskRoutes =
  | Readonly<Record<string, TaskRoute>>
  | TaskRouter
  | readonly (Readonly<Record<string, TaskRoute>> | TaskRouter | readonly [RegExp | string, TaskRoute])[];

export interface Destination {
  readonly exchange: string;
  readonly routingKey: string;
  /** If `routingKey` names a queue: the key for the queue's exchange, if that is not a direct one. */
  readonly queueKey?: string;
  readonly priority?: number;
}

/** The options of a call that name its destination. They win over any route. */
export interface RouteOptions {
  readonly queue?: string | undefined;
  readonly exchange?: string | undefined;
  readonly routingKey?: string | undefined;
}

/** Source: celery/app/routes.py (5.6): exact names before patterns in each table. */
export function destination(
  routes: TaskRoutes,
  defaultQueue: string,
  task: string,
  options: RouteOptions,
  args: readonly unknown[] = [],
  kwargs: unknown = {},
): Destination {
  if (options.exchange !== undefined && options.exchange !== '')
    return { exchange: options.exchange, routingKey: options.routingKey ?? options.queue ?? '' };
  const route = lookup(routes, task, args, kwargs);
  // If the call names the destination, the priority still comes from the route.
  const priority = typeof route !== 'object' || route.priority === undefined ? {} : { priority: route.priority };
  const queue = options.queue ?? options.routingKey;
  if (queue !== undefined) return { exchange: '', routingKey: queue, ...keyOf(queue, options.routingKey), ...priority };
  if (route === undefined) return { exchange: '', routingKey: defaultQueue };
  if (typeof route === 'string') return { exchange: '', routingKey: route };
  if (route.exchange !== undefined && route.exchange !== '')
    return { exchange: route.exchange, routingKey: route.routingKey ?? '', ...priority };
  const name = route.queue ?? route.routingKey ?? defaultQueue;
  return { exchange: '', routingKey: name, ...keyOf(name, route.routingKey), ...priority };
}

function keyOf(queue: string, key: string | undefined): Pick<Destination, 'queueKey'> {
  return key === undefined || key === queue ? {} : { queueKey: key };
}

/** The same for a signature's options in their wire form. `seen`: the arguments are plain user values, so routers may read them. */
export function signatureRoute(routes: TaskRoutes, defaultQueue: string, seen = false): Route {
  return (task, options, args, kwargs) => {
    const text = (name: string): string | undefined => {
      const value = options.get(name);
      return typeof value === 'string' ? value : undefined;
    };
    const to = { queue: text('queue'), exchange: text('exchange'), routingKey: text('routing_key') };
    return seen
      ? destination(routes, defaultQueue, task, to, args, Object.fromEntries(kwargs ?? []))
      : destination(routes, defaultQueue, task, to);
  };
}

function lookup(routes: TaskRoutes, task: string, args: readonly unknown[], kwargs: unknown): TaskRoute | undefined {
  if (typeof routes === 'function') return routes(task, args, kwargs);
  if (!Array.isArray(routes)) return inTable(routes as Readonly<Record<string, TaskRoute>>, task);
  for (const entry of routes as readonly unknown[]) {
    const found = Array.isArray(entry)
      ? inPair(entry as [RegExp | string, TaskRoute], task)
      : lookup(entry as TaskRoutes, task, args, kwargs);
    if (found !== undefined) return found;
  }
  return undefined;
}

function inPair([pattern, route]: readonly [RegExp | string, TaskRoute], task: string): TaskRoute | undefined {
  const matches =
    typeof pattern !== 'string'
      ? task.search(pattern) >= 0
      : isGlob(pattern)
        ? glob(pattern).test(task)
        : pattern === task;
  return matches ? route : undefined;
}

function inTable(table: Readonly<Record<string, TaskRoute>>, task: string): TaskRoute | undefined {
  if (Object.hasOwn(table, task)) return table[task];
  return Object.entries(table).find(([pattern]) => isGlob(pattern) && glob(pattern).test(task))?.[1];
}

/** Only a name with a star is a pattern. In a pattern, `?` and `[…]` count as well. */
function isGlob(pattern: string): boolean {
  return pattern.includes('*');
}

const globs = new Map<string, RegExp>();

/** Python's fnmatch: `*` any text, `?` any character, `[abc]`, `[!a-c]`. */
function glob(pattern: string): RegExp {
  let found = globs.get(pattern);
  if (found === undefined) {
    const source = pattern.replace(
      /\*|\?|\[(!?)(\]?[^\]]*)\]|[\\^$.|+()[\]{}]/g,
      (part, not: string | undefined, set: string | undefined) => {
        if (part === '*') return '.*';
        if (part === '?') return '.';
        if (set === undefined || set === '') return [...part].map((character) => `\\${character}`).join('');
        return `[${not === '!' ? '^' : ''}${set.replace(/[\\^\]]/g, '\\$&')}]`;
      },
    );
    globs.set(pattern, (found = new RegExp(`^${source}$`, 's')));
  }
  return found;
}
