// Helpers of both pages. All text is set as text, never as HTML.
export const $ = (id) => document.getElementById(id)

export const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props)
  element.append(...children)
  return element
}

/** Replaces the children of `list`. Children that stay are not touched, and keep their focus even if they move. */
export function arrange (list, wanted) {
  const kept = new Set(wanted)
  const focused = list.contains(document.activeElement) ? document.activeElement : null
  for (const child of [...list.children]) if (!kept.has(child)) child.remove()
  wanted.forEach((child, i) => { if (list.children[i] !== child) list.insertBefore(child, list.children[i] ?? null) })
  if (focused !== null && list.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true })
}

/**
 * One tab stop for all buttons in `box`: the arrows, Home and End move among them. Call the function that is returned when
 * the buttons have changed.
 */
export function rove (box, selector) {
  const all = () => [...box.querySelectorAll(selector)]
  const stopAt = (chosen) => { for (const one of all()) one.tabIndex = one === chosen ? 0 : -1 }
  box.addEventListener('keydown', (event) => {
    const list = all()
    const at = list.indexOf(document.activeElement)
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: list.length - 1 }[event.key]
    if (at < 0 || next === undefined) return
    event.preventDefault()
    list[Math.max(0, Math.min(next, list.length - 1))].focus()
  })
  box.addEventListener('focusin', ({ target }) => { if (target.matches(selector)) stopAt(target) })
  return () => {
    const list = all()
    if (list.filter(({ tabIndex }) => tabIndex === 0).length !== 1) stopAt(list.find((one) => one === document.activeElement || one.ariaCurrent === 'true') ?? list[0])
  }
}

/** Compares names as people sort them. */
export const byName = new Intl.Collator().compare

/** Initials on a colour of one's own. */
export function face (id, name, ...more) {
  const initials = name.split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase()
  const element = make('span', { className: 'face', ariaHidden: 'true' }, initials, ...more)
  element.style.setProperty('--hue', String([...String(id)].reduce((hue, letter) => (hue * 31 + letter.charCodeAt(0) * 137) % 360, 0)))
  return element
}

/** A name or a text of somebody's, which may run from right to left. */
export const bidi = (text) => make('bdi', { textContent: text })

/** `3 messages`, `1 message`. */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`

/** Whether this host has integer ids; others are strings. */
export const hasIntegerIds = document.documentElement.dataset.ids === 'integer'

/** Parses an id. */
export const readId = (text) => hasIntegerIds ? Number(text) : text

/** A token of the demo's login, which is off in production. */
export async function login ({ name, userId, clubId, admin }) {
  const body = JSON.stringify({ name, userId, clubId, ...admin ? { admin } : {} })
  const response = await fetch('/login', { method: 'POST', headers: { 'content-type': 'application/json' }, body })
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
    else if (transport === 'sse') show('Connected by server-sent events: sockets are blocked', 'polling')
    else show(connected, 'on')
  })
  client.on('disconnected', ({ code, willReconnect }) => show(willReconnect ? `Disconnected (${code}): coming back…` : `Ended (${code})`))
  client.on('reconnecting', ({ delay }) => {
    if (client.state !== 'connected') show(`Offline: retry in ${Math.ceil(delay / 1000)} s`)
  })
  show('Connecting…')
}
