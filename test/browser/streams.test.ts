/** Everything that people do on the demo page, where WebSockets are blocked: over server-sent events. */
process.env.SOCKETS_BLOCKED = '1'
await import('./chat.test.js')

export {}
