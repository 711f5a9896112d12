// Types of client.js, which atrium.ClientScript serves. A page that is written in TypeScript says where they are:
//
//	declare module '/client.js' { export * from './client' }
//
// Both ends' events can be typed, as functions of their arguments:
//
//	interface FromServer { msg(text: string): void; 'sure?'(n: number): boolean }
//	interface ToServer { typing(room: string): void; 'send-msg'(m: { room: string; text: string }): { id: number } }
//
//	const socket = connect<FromServer, ToServer>('/socket.io/');
//	const { id } = await socket.call('send-msg', { room: 'lobby', text: 'hi' });

/** What an event carries, and what its handler answers. */
export type Events = Record<string, (...args: any[]) => any>;

type Names<E> = keyof E & string;
type Args<E, K extends keyof E> = E[K] extends (...args: infer A) => any ? A : never;
type Answer<E, K extends keyof E> = E[K] extends (...args: any[]) => infer R ? Awaited<R> : never;
type Tail<A extends unknown[]> = A extends [unknown?, ...infer T] ? T : [];
type Handler<E, K extends keyof E> = (...args: Args<E, K>) => void extends Answer<E, K> ? unknown : Answer<E, K> | Promise<Answer<E, K>>;

/**
 * Connects to a Socket.IO server: an Atrium hub, or any other of version 3 or 4 that takes WebSockets.
 *
 * A server that refuses the WebSocket's handshake with an HTTP status (401 or 403 by Options.Accept, 429, 503) is to pages
 * one that cannot be reached: browsers show them neither the status nor the body nor Retry-After, so that connect_error
 * has "websocket error", and there is another attempt. What a page is to be told, the server's Use functions can say: their
 * error comes as a RefusedError, and ends the attempts.
 *
 * @param url The server's whole path, with the slash that Socket.IO has at its end; relative to the page. "/socket.io/" if
 * left out. http and https mean ws and wss. Its query is sent along. In a worker made of a Blob and in a frame made of a
 * srcdoc, which have no address, it is relative to the page that made them; in a worker made of a data: URL, in a page
 * that is a file, and outside of browsers it has to be absolute.
 * @throws TypeError for an unusable url or namespace.
 */
export function connect<In = Events, Out = Events>(url?: string | URL, options?: Options): Socket<In, Out>;

export interface Options {
  /** The auth value, sent each time a connection opens. A function is called each time; if it fails, so does the attempt. */
  auth?: object | (() => object | undefined | Promise<object | undefined>);
  /** "/" if left out. */
  namespace?: string;
  /** How to reconnect after a connection is lost or could not be made. false: not at all. */
  reconnect?: Reconnect | false;
  /** How long an attempt to connect may take, in milliseconds: 20000 if left out. */
  timeout?: number;
  /** How long a call waits for its answer, in milliseconds: 10000 if left out. */
  ackTimeout?: number;
  /** How many events and calls wait while there is no connection: 1000 if left out. */
  offline?: number;
  /**
   * How many binary values an event or an answer may have, in either direction: 10 if left out, which is what Socket.IO's
   * own parsers and a hub take. The server has to take as many: see Limits.Attachments and ClientOptions.MaxAttachments
   * in Go, and maxAttachments of socket.io-parser. An event with more is not handled: its acknowledgement is the error, or
   * else the browser reports it. A call whose answer has more rejects.
   */
  maxAttachments?: number;
  /** false: the first connect() is yours. */
  autoConnect?: boolean;
}

/**
 * The delay before attempt n is min * factor ** n, give or take the part of it that jitter says, and never over max: as of
 * Backoff in Go. A connection that has lasted for less than min counts as an attempt that has failed. When the server closes
 * one that has lasted with status 1012, service restart, as Hub.Shutdown does, nothing has failed: the first delay is a
 * quarter of min, with its jitter, and does not count.
 */
export interface Reconnect {
  /** In milliseconds: 1000 if left out. */
  min?: number;
  /** In milliseconds: 5000 if left out, or min if that is more. */
  max?: number;
  /** 2 if left out. */
  factor?: number;
  /** From 0 to 1: 0.5 if left out. */
  jitter?: number;
  /** How many attempts may fail in a row before it gives up: any number if left out. */
  attempts?: number;
}

/**
 * - connecting: an attempt is under way; the server has not accepted the client yet.
 * - open: the socket is connected.
 * - waiting: for the next attempt.
 * - closed: there is no attempt until connect() is called.
 */
export type State = 'closed' | 'connecting' | 'open' | 'waiting';

/**
 * Why a connection ended. After the first two the socket is closed, after the others it reconnects by itself. Before the first, a
 * hub may send an event disconnect_reason with {code, reason}: what the application says of it.
 */
export type Reason = 'io server disconnect' | 'io client disconnect' | 'ping timeout' | 'transport close' | 'parse error';

/**
 * What a call rejects with, and what connect_error brings.
 *
 * - RefusedError: the server has refused; message and data are what it sent. A refused socket does not reconnect by itself.
 * - TimeoutError: there was no answer in time. The server may have handled the call or not.
 * - DisconnectedError: the connection ended before the answer came, or there was none and too much waits for one.
 */
export interface Failure extends Error {
  name: 'RefusedError' | 'TimeoutError' | 'DisconnectedError';
  data?: any;
}

interface Lifecycle {
  /** The socket is connected, for the first time or again; see recovered. What the handler sends goes first. */
  connect: () => void;
  disconnect: (reason: Reason) => void;
  /** An attempt has failed. */
  connect_error: (error: Failure | Error) => void;
}

export interface CallOptions<Rest extends unknown[] = unknown[]> {
  /** The arguments behind the first, for an event that has several. */
  args?: Rest;
  /** In milliseconds, of each attempt, one that waits for a connection too; Options.ackTimeout if left out. Infinity is possible. */
  timeout?: number;
  /**
   * How often it is sent again, after a timeout or on a new connection, in the old order: none if left out. The server
   * may then get it more than once, so give it a key by which it can tell. Infinity is possible.
   */
  retries?: number;
}

/** Who is in a room: see Socket.Present in Go. */
export interface Presence<Info = any> {
  /** By key: each user once, with the info of each of their sockets. Empty if there are too many to be listed. */
  readonly list: { key: string; infos: Info[] }[];
  /** How many keys there are or, if there are too many to be listed, how many sockets. */
  readonly count: number;
  /** Called after each change. */
  onchange?: (list: { key: string; infos: Info[] }[]) => void;
  /** Ends it. */
  close(): void;
}

/**
 * A connection that reconnects by itself. It ends for what the server does and does not do, and never for what the browser
 * says: when that goes offline or online, when the page is shown and after a sleep of the machine, it asks a hub whether
 * the connection still works, gives it ten seconds to answer, and ends any delay before the next attempt. Other servers
 * cannot be asked; there the heartbeat decides: a server that is silent for longer than its ping interval and its ping
 * time-out together is gone.
 *
 * Bytes are ArrayBuffers, views of them or Blobs when sent, whatever toJSON they may have, and ArrayBuffers when received.
 */
export interface Socket<In = Events, Out = Events> {
  readonly state: State;
  /** The socket's id at the server; undefined unless it is open. */
  readonly id: string | undefined;
  /** Whether the server has kept the rooms of the socket, and sent what it missed. */
  readonly recovered: boolean;
  /** Called at each change; delay is how many milliseconds it will wait. */
  onstate?: (state: State, delay?: number) => void;

  /**
   * Adds a handler. What it returns, or what its promise brings, is the acknowledgement if the server wants one; what it
   * throws is told to the server then. Of several, the one added first answers.
   */
  on<K extends keyof Lifecycle>(event: K, handler: Lifecycle[K]): this;
  on<K extends Names<In>>(event: K, handler: Handler<In, K>): this;
  /** on, for one time. */
  once<K extends keyof Lifecycle>(event: K, handler: Lifecycle[K]): this;
  once<K extends Names<In>>(event: K, handler: Handler<In, K>): this;
  /** Removes a handler; all of an event; all. */
  off(event?: keyof Lifecycle | Names<In>, handler?: (...args: any[]) => any): this;

  /**
   * Sends an event, or keeps it until there is a connection.
   *
   * @returns false if it was dropped: Options.offline others wait already.
   * @throws TypeError for a reserved name; RangeError for more binary values than Options.maxAttachments, and for a message
   * with more bytes than the server has said that it takes, which would end the connection; and what JSON.stringify
   * throws. One that was kept before the server had said so is dropped when it connects, and the browser reports the error.
   */
  emit<K extends Names<Out>>(event: K, ...args: Args<Out, K>): boolean;
  /** emit for what is worthless when late: dropped if there is no connection, or if it is congested. */
  readonly volatile: { emit<K extends Names<Out>>(event: K, ...args: Args<Out, K>): boolean };
  /**
   * Sends an event that wants an answer, or keeps it until there is a connection. It resolves to the answer, and rejects
   * with a Failure, or with what emit throws.
   */
  call<K extends Names<Out>>(event: K, data?: Args<Out, K>[0], options?: CallOptions<Tail<Args<Out, K>>>): Promise<Answer<Out, K>>;

  /**
   * Who is in a room: a list that an Atrium hub keeps up to date, as long as this socket is in the room; empty until it
   * has joined. It uses the event "presence", by which it also asks the hub: when it is made, whenever the socket is
   * connected, after what the handlers of "connect" have sent, and when a change is missing. A server that does not answer
   * leaves it empty.
   */
  presence<Info = any>(room: string): Presence<Info>;

  /** Connects, unless it has: at once, whatever delay there was. */
  connect(): this;
  /** Disconnects, and does not reconnect. Calls without an answer reject, and what was still to be sent is dropped. */
  close(): this;
}
