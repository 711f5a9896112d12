// What a page does in TestRestarts: it sends numbered messages, four at a time, until it is told to stop.
export function send(connect, url, sender) {
  const socket = connect(url, { reconnect: { min: 20, max: 200, jitter: 1 }, timeout: 2000 });
  const state = { acknowledged: 0, stop: false };
  let next = 0;
  const lane = async () => {
    while (!state.stop) {
      const n = next++;
      await socket.call('numbered', { sender, n, once: n % 2 === 1 }, { retries: Infinity, timeout: 2000 });
      state.acknowledged++;
    }
  };
  state.ended = Promise.all([lane(), lane(), lane(), lane()]).finally(() => socket.close());
  return state;
}
