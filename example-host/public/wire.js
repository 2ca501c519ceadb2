// The latest frames, acks and resumes, for engineers.
import { $, count, make, rove } from '/dom.js'

const KEPT = 60
/** Characters of a frame that are shown at most. */
const LONG = 4000
/** Milliseconds for which frames are collected before they are shown. */
const TOGETHER = 100

/** Returns the function that is called with each report of the line. `onResumed(text)` is called after a reconnect. */
export function createWire (onResumed) {
  const sent = new Map() // id of a frame → { event, data, at }
  const totals = { in: 0, out: 0 }
  let fresh = []
  let timer = null

  const settle = rove($('frames'), 'summary')
  /** A row; data are one line of it, until somebody opens it. */
  const row = (className, title, data) => {
    const line = make('span', { className: 'title', textContent: title })
    if (data === undefined) fresh.push(make('li', { className }, line))
    else {
      const code = make('code', { textContent: JSON.stringify(data).slice(0, LONG) })
      const details = make('details', { ontoggle: () => { code.textContent = JSON.stringify(data, null, details.open ? 1 : undefined).slice(0, LONG) } }, make('summary', { tabIndex: -1 }, line, code))
      fresh.push(make('li', { className }, details))
    }
    if (fresh.length > KEPT) fresh.shift()
    timer ??= setTimeout(show, TOGETHER)
  }
  function show () {
    timer = null
    // The newest on top.
    $('frames').prepend(...fresh.reverse())
    fresh = []
    while ($('frames').children.length > KEPT) $('frames').lastChild.remove()
    settle()
    $('totals').textContent = `${totals.out} out, ${totals.in} in`
  }

  return ({ way, frame, note, request }) => {
    if (note !== undefined) return row('note', note)
    if (request !== undefined) return row('rest', request)
    totals[way]++
    const { event, id, data = {} } = frame
    if (way === 'out') {
      if (id !== undefined) sent.set(id, { event, data, at: performance.now() })
      return row('out', `↑ ${event}${id === undefined ? '' : ` #${id}`}`, hush(data))
    }
    const asked = id === undefined ? undefined : sent.get(id)
    if (asked === undefined) return row('in', `↓ ${event}`, hush(data))
    sent.delete(id)
    row(event === 'error' ? 'in refused' : 'in ack', `↓ ${event} #${id} · ${asked.event} · ${Math.round(performance.now() - asked.at)} ms`, hush(data))
    if (asked.event === 'subscribe') tellResumed(asked.data, data)
  }

  /** After a reconnect: from where each channel continues, and whether anything is lost. */
  function tellResumed (asked, answer) {
    const channels = (asked.channels ?? [asked]).filter(({ since }) => since !== undefined)
    if (channels.length === 0) return
    const lost = (answer.channels ?? [answer]).filter(({ recovered }) => recovered === false).length
    const said = lost === 0 ? 'nothing is missing' : `${lost} must be reloaded`
    row('resumed', `resumed ${count(channels.length, 'channel')}: ${said}`, Object.fromEntries(channels.map(({ channel, since }) => [channel, since])))
    onResumed(said)
  }
}

const hush = ({ token, ...data }) => token === undefined ? data : { token: '…', ...data }
