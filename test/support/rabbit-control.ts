import { createServer, type Server, type Socket } from 'node:net';
import { PATIENCE_MS } from './until.ts';

/**
 * A line into a running broker: it connects back to a socket of ours after its boot and evaluates what it is sent. Exact and
 * immediate, where `rabbitmqctl` boots a second Erlang for every question and the management plugin answers with statistics
 * that are seconds old. The functions asked for are those `rabbitmqctl` itself calls, so they are in 3.8 as in 4.x.
 *
 * The other way round it is a leash: a broker whose line is cut halts.
 */
export class RabbitControl {
  readonly #path: string;
  readonly #server: Server;
  #socket: Socket | undefined;
  #waiting: Waiting[] = [];
  #connected: () => void = () => {};

  private constructor(path: string, server: Server) {
    this.#path = path;
    this.#server = server;
    server.on('connection', (socket) => this.#accept(socket));
  }

  /** Listens on a Unix socket at `path`. */
  static async listen(path: string): Promise<RabbitControl> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
    server.unref();
    return new RabbitControl(path, server);
  }

  /** The arguments for Erlang that make a broker connect, once `rabbit:boot` has returned. */
  get erlangArgs(): readonly string[] {
    return ['-eval', `Path = ${binary(this.#path)}, ${CONNECT}`];
  }

  /** Resolves when a broker has connected from now on. */
  connected(): Promise<void> {
    this.#socket = undefined;
    return new Promise((resolve) => (this.#connected = resolve));
  }

  /**
   * The value of Erlang expressions (`"A = 1, A + 1."`), which must be one that rabbit_json can encode. Rejects with what
   * Erlang raised, when the broker is gone, or when it has not answered in time.
   */
  ask(source: string, timeoutMs = PATIENCE_MS): Promise<unknown> {
    const socket = this.#socket;
    if (socket === undefined) return Promise.reject(new Error('the broker is not running'));
    return new Promise((resolve, reject) => {
      const patience = setTimeout(
        () => reject(new Error(`the broker has not answered within ${timeoutMs} ms: ${source}`)),
        timeoutMs,
      );
      this.#waiting.push({
        settle(error, value) {
          clearTimeout(patience);
          if (error === undefined) resolve(value);
          else reject(new Error(`${error} (asked: ${source})`));
        },
      });
      const body = Buffer.from(source);
      const size = Buffer.alloc(LENGTH_BYTES);
      size.writeUInt32BE(body.length);
      socket.write(Buffer.concat([size, body]));
    });
  }

  close(): void {
    this.#socket?.destroy();
    this.#server.close();
  }

  #accept(socket: Socket): void {
    this.#socket = socket;
    socket.unref();
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= LENGTH_BYTES) {
        const end = LENGTH_BYTES + received.readUInt32BE();
        if (received.length < end) break;
        const { ok, error } = JSON.parse(received.toString('utf8', LENGTH_BYTES, end)) as Reply;
        received = received.subarray(end);
        this.#waiting.shift()?.settle(error, ok);
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      for (const one of this.#waiting.splice(0)) one.settle('the broker is gone', undefined);
    });
    this.#connected();
  }
}

/** A string as an Erlang binary, whatever is in it. */
export function binary(text: string): string {
  return `<<${[...Buffer.from(text)].join(',')}>>`;
}

interface Waiting {
  settle(error: string | undefined, value: unknown): void;
}

interface Reply {
  readonly ok?: unknown;
  readonly error?: string;
}

/** Erlang's `{packet, 4}`: every message after its length. */
const LENGTH_BYTES = 4;

const CONNECT = `
spawn(fun() ->
  {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {packet, ${LENGTH_BYTES}}, {active, false}]),
  Serve = fun Serve() ->
    case gen_tcp:recv(Socket, 0) of
      {ok, Source} ->
        Reply = try
          {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Source)),
          {ok, Expressions} = erl_parse:parse_exprs(Tokens),
          {value, Value, _} = erl_eval:exprs(Expressions, []),
          rabbit_json:encode(#{ok => Value})
        catch Class:Reason ->
          rabbit_json:encode(#{error => iolist_to_binary(io_lib:format("~p: ~p", [Class, Reason]))})
        end,
        ok = gen_tcp:send(Socket, Reply),
        Serve();
      {error, _} -> erlang:halt(0)
    end
  end,
  Serve()
end).`.replace(/\s+/g, ' ');
