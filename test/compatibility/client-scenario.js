/**
 * What every platform has to do: two users connect, one subscribes and hears what the other sends, exactly once, and both
 * leave. Plain JavaScript, because it runs where only the client itself is installed. Returns the transport that was used.
 */
export async function scenario (createClient, { baseUrl, tokens, channel }, options = {}) {
  const clients = tokens.map((token) => createClient({ baseUrl, token: async () => token, ...options }))
  const [ann, ben] = clients
  const failures = []
  const heard = []
  for (const client of clients) client.on('error', (err) => { failures.push(`${err.code} ${err.message}`) })
  const last = new Promise((resolve) => {
    ben.on('message:group', ({ messageId, message }) => {
      heard.push(`${messageId} ${message}`)
      if (message === 'last') resolve()
    })
  })
  const run = async () => {
    await Promise.all(clients.map((client) => client.subscribe(channel)))
    const sent = []
    for (const message of ['hello', 'last']) sent.push(`${(await ann.send('message:group', { channel, message, conversationId: 'c' })).messageId} ${message}`)
    await last
    if (heard.join() !== sent.join()) throw new Error(`sent ${sent.join()}, heard ${heard.join()}`)
    if ((await ann.updatePresence('busy')).status !== 'busy') throw new Error('no presence')
    const { transport } = ann
    await Promise.all(clients.map((client) => client.disconnect()))
    if (clients.some(({ state }) => state !== 'stopped')) throw new Error('not stopped')
    if (failures.length > 0) throw new Error(failures.join())
    return transport
  }
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`not within 30 s: ${clients.map(({ state }) => state).join()}, ${failures.join()}`)) }, 30_000)
  })
  try {
    return await Promise.race([run(), late])
  } finally {
    clearTimeout(timer)
  }
}
