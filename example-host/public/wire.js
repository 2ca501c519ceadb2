// What just happened on the wire, for engineers: frames, acks, resumes.
import { $, count, make } from '/dom.js'

const KEPT = 60
const LONG = 400
/** Milliseconds for which frames are collected before they are shown. */
const TOGETHER = 100

/** Returns the function that is called with each report of the line. */
export function createWire () {
  const sent = new Map() // id of a frame → { event, data, at }
  const totals = { in: 0, out: 0 }
  let fresh = []
  let timer = null

  const row = (className, title, detail = '') => {
    fresh.push(make('li', { className }, make('span', { className: 'title', textContent: title }), ...detail === '' ? [] : [make('code', { textContent: detail.slice(0, LONG) })]))
    if (fresh.length > KEPT) fresh.shift()
    timer ??= setTimeout(show, TOGETHER)
  }
  function show () {
    timer = null
    // The newest on top.
    $('frames').prepend(...fresh.reverse())
    fresh = []
    while ($('frames').children.length > KEPT) $('frames').lastChild.remove()
    $('totals').textContent = `${totals.out} out, ${totals.in} in`
  }

  return ({ way, frame, note, request }) => {
    if (note !== undefined) return row('note', note)
    if (request !== undefined) return row('rest', request)
    totals[way]++
    const { event, id, data = {} } = frame
    if (way === 'out') {
      if (id !== undefined) sent.set(id, { event, data, at: performance.now() })
      return row('out', `↑ ${event}${id === undefined ? '' : ` #${id}`}`, say(data))
    }
    const asked = id === undefined ? undefined : sent.get(id)
    if (asked === undefined) return row('in', `↓ ${event}`, say(data))
    sent.delete(id)
    row(event === 'error' ? 'in refused' : 'in ack', `↓ ${event} #${id} · ${asked.event} · ${Math.round(performance.now() - asked.at)} ms`, say(data))
    if (asked.event === 'subscribe') tellResumed(asked.data, data)
  }

  /** After a reconnect: from where each channel continues, and whether anything is lost. */
  function tellResumed (asked, answer) {
    const channels = (asked.channels ?? [asked]).filter(({ since }) => since !== undefined)
    if (channels.length === 0) return
    const lost = (answer.channels ?? [answer]).filter(({ recovered }) => recovered === false).length
    row('resumed', `resumed ${count(channels.length, 'channel')}: ${lost === 0 ? 'nothing is missing' : `${lost} must be reloaded`}`,
      channels.map(({ channel, since }) => `${channel} since ${since}`).join(', '))
  }
}

const say = ({ token, ...data }) => JSON.stringify(token === undefined ? data : { token: '…', ...data })
