// What both pages need. All text is set as text; nothing is ever made into HTML.
export const $ = (id) => document.getElementById(id)

export const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props)
  element.append(...children)
  return element
}

/** The children of `list` become these; those that stay are not touched, and keep their focus. */
export function arrange (list, wanted) {
  const kept = new Set(wanted)
  for (const child of [...list.children]) if (!kept.has(child)) child.remove()
  wanted.forEach((child, i) => { if (list.children[i] !== child) list.insertBefore(child, list.children[i] ?? null) })
}

/** Whether this host has integer ids; others are strings. */
export const hasIntegerIds = document.documentElement.dataset.ids === 'integer'

/** An id as text says it. */
export const readId = (text) => hasIntegerIds ? Number(text) : text

/** A token of the demo's login, which is off in production. */
export async function login (who) {
  const response = await fetch('/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(who) })
  if (!response.ok) throw new Error(response.status === 404 ? 'The demo login is off in production.' : 'This login is not accepted.')
  return (await response.json()).token
}

/** Shows in the strip where a client's connection is. */
export function followConnection (client, connected = 'Connected') {
  const show = (text, className = '') => {
    $('state').textContent = text
    $('light').className = className
  }
  client.on('transport', ({ transport }) => {
    if (transport === 'polling') show('Connected by polling: sockets are blocked', 'polling')
    else show(connected, 'on')
  })
  client.on('disconnected', ({ code, willReconnect }) => show(willReconnect ? `Disconnected (${code}): coming back…` : `Ended (${code})`))
  client.on('reconnecting', ({ attempt, delay }) => {
    if (client.state !== 'connected') show(`Disconnected: attempt ${attempt} in ${(delay / 1000).toFixed(1)} s…`)
  })
  show('Connecting…')
}
