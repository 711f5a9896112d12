// What TypeScript makes of client.d.ts; TestClientTypes compiles it. A line that must not compile says so above it.
import { connect, type Failure, type Reason, type Socket, type State } from '../client.js';

// Without types of its own, a page may send anything.
const loose = connect('/socket.io/', { auth: async () => ({ token: 'x' }), reconnect: { min: 100, jitter: 0 }, namespace: '/admin' });
loose.on('anything', (text: string, n: number) => text.repeat(n));
loose.emit('anything', 1, 'two', new Uint8Array(3));
const any = await loose.call('anything', 1, { args: [2, 3], timeout: 100, retries: Infinity });
any.whatever();
connect(new URL('wss://example.com/socket.io/'), { reconnect: false, autoConnect: false, maxAttachments: 100 });

interface FromServer {
  msg(text: string, at: number): void;
  'sure?'(n: number): boolean;
}
interface ToServer {
  typing(room: string): void;
  'send-msg'(m: { room: string; text: string }): { id: number };
  move(from: string, to: string, fast?: boolean): Promise<string>;
  count(): number;
}
const socket: Socket<FromServer, ToServer> = connect<FromServer, ToServer>();

socket.on('msg', (text, at) => text.repeat(at));
socket.on('sure?', (n) => n > 1).once('sure?', async (n) => n > 2);
socket.on('connect', () => socket.id?.length).on('disconnect', (reason) => { const why: Reason = reason; void why; });
socket.once('connect_error', (error) => console.log(error.name, (error as Failure).data));
socket.onstate = (state, delay) => { const s: State = state; void [s, delay?.toFixed()]; };
// @ts-expect-error there is no such event
socket.on('massage', () => {});
// @ts-expect-error the answer is a boolean
socket.on('sure?', () => 'yes');
// @ts-expect-error text is a string
socket.on('msg', (text: number) => text);

const sent: boolean = socket.emit('typing', 'lobby') && socket.volatile.emit('typing', 'lobby');
const { id } = await socket.call('send-msg', { room: 'lobby', text: 'hi' });
const done: string = await socket.call('move', 'a', { args: ['b', true], timeout: 1000 });
const n: number = await socket.call('count');
void [sent, id.toFixed(), done, n];
const here = socket.presence<{ mood: string }>('lobby');
here.onchange = (list) => list.flatMap(({ key, infos }) => [key, ...infos.map((info) => info.mood.trim())]);
void [here.list.length, here.count.toFixed()];
here.close();
// @ts-expect-error the list is read only
here.list = [];
// @ts-expect-error a room is missing
socket.emit('typing');
// @ts-expect-error it has no color
socket.emit('typing', 'lobby', 'red');
// @ts-expect-error text is missing
void socket.call('send-msg', { room: 'lobby' });
// @ts-expect-error to is a string
void socket.call('move', 'a', { args: [1] });
// @ts-expect-error the answer has no name
void (await socket.call('send-msg', { room: 'lobby', text: 'hi' })).name;
// @ts-expect-error attempts are counted
connect('/', { reconnect: { attempts: 'many' } });
// @ts-expect-error the state is read only
socket.state = 'open';

socket.off('msg').off().close().connect();
