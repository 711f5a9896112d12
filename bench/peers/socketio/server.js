// The server of Socket.IO for Node, with the options that its documentation recommends for speed and
// memory: no reference to the request is kept. It answers on its standard input what bench/process
// asks.
const { createServer } = require('node:http')
const { createInterface } = require('node:readline')
const { setTimeout: sleep } = require('node:timers/promises')
const { Server } = require('socket.io')

const http = createServer()
const io = new Server(http, { path: '/hub', addTrailingSlash: false, pingInterval: 3_600_000, serveClient: false })
io.engine.on('connection', (raw) => { raw.request = null })
io.on('connection', (socket) => {
  socket.join('room')
  socket.on('echo', ({ text }, answer) => answer({ text }))
})

// The messages to the room are those of message.go.
const size = 128 - '42["said",""]'.length
const letters = 'abcdefghijklmnopqrstuvwxyz'.repeat(size).slice(0, size - 10)
let said = 0

async function command(argument) {
  for (; argument < 0 && (io.of('/').adapter.rooms.get('room')?.size ?? 0) < -argument;) await sleep(1)
  for (; argument > 0; argument--) io.to('room').emit('said', String(said++).padStart(10, '0') + letters)
}

async function answer(line) {
  if (line === 'memory') {
    gc()
    const { rss, heapUsed } = process.memoryUsage()
    console.log(rss, heapUsed, 0, 0)
  } else if (line === 'allocations') {
    console.log(0) // V8 does not count them
  } else {
    await command(Number(line.split(' ')[1]))
  }
}

http.listen(0, '127.0.0.1', async () => {
  console.log(`127.0.0.1:${http.address().port}`)
  for await (const line of createInterface({ input: process.stdin })) await answer(line)
  process.exit()
})
