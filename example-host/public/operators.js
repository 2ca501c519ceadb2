// The connected users of a club, and the actions of operators.
import { $, arrange, bidi, count, hasIntegerIds, make, readId } from '/dom.js'

const AGAIN = 3000
const FIGURES = [
  ['Connections', 'totalConnections'], ['Active connections', 'activeConnections'], ['Users', 'uniqueUsers'], ['Pending events', 'pendingEvents'], ['Failed events', 'failedEvents']
]

/** `token` resolves with an operator's token. */
export function showOperators (token) {
  const rows = new Map() // connection id → row
  const groups = new Map() // channel → li
  const room = (channel, text) => {
    if (!groups.has(channel)) groups.set(channel, make('li'))
    groups.get(channel).textContent = text
    return groups.get(channel)
  }
  const cells = [...FIGURES, ['Visible users']].map(([title]) => {
    const value = make('dd', { textContent: '–' })
    $('club-figures').append(make('div', {}, make('dt', { textContent: title }), value))
    return value
  })
  const say = (text) => { $('outcome').textContent = text }
  const call = async (path, body) => {
    const response = await fetch(`/operators/${path}`, {
      headers: { authorization: `Bearer ${await token()}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) })
    })
    const answer = await response.json()
    if (!response.ok) throw new Error(answer.message)
    return answer
  }
  const act = (name, path, body) => async () => {
    try {
      const { connections, complete } = await call(path, body())
      say(`${name}: ${connections} connection${connections === 1 ? '' : 's'}${complete ? '' : ', a node has not answered yet'}`)
    } catch (err) {
      say(`${name}: ${err.message}`)
    }
    await show()
  }
  const button = (text, label, onclick) => make('button', { textContent: text, ariaLabel: label, className: 'quiet', type: 'button', onclick })

  function rowOf (clubId, { userId, name }, { connectionId, device, ipAddress, channels }) {
    const who = name ?? `User ${userId}`
    const choice = make('select', { ariaLabel: `Channel of ${who}` })
    const row = rows.get(connectionId) ?? make('tr', {}, make('th', { scope: 'row' }, bidi(`${who} (${userId})`)), make('td'), make('td', {}, choice), make('td', {},
      button('Kick', `Kick ${who} out of the channel`, act('Kicked', 'kick', () => ({ clubId, userId, channel: row.querySelector('select').value }))),
      button('Close', `Close this connection of ${who}`, act('Closed', 'close', () => ({ clubId, connectionId }))),
      button('Ban', `Ban ${who}`, act('Banned', 'ban', () => {
        // A second button confirms, so that a wrong press does no harm.
        $('unban-user').value = userId
        return { clubId, userId }
      }))))
    row.children[1].textContent = `${device}, ${ipAddress ?? 'address unknown'}`
    const select = row.querySelector('select')
    const names = (channels ?? []).filter((channel) => !channel.startsWith('private-user.') && channel !== 'presence' && channel !== 'broadcast')
    if (names.join() !== [...select.options].map(({ value }) => value).join()) select.replaceChildren(...names.map((channel) => make('option', { value: channel, textContent: channel })))
    rows.set(connectionId, row)
    return row
  }

  async function show () {
    const clubId = readId($('of-club').value)
    if (!clubId) return
    try {
      const { users, total, figures, rooms } = await call(`online?clubId=${encodeURIComponent(clubId)}`)
      const shown = users.flatMap((user) => user.connections.map((connection) => [connection.connectionId, rowOf(clubId, user, connection)]))
      const ids = new Set(shown.map(([id]) => id))
      for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id)
      arrange($('people-online'), shown.map(([, row]) => row))
      $('nobody').hidden = shown.length > 0
      FIGURES.forEach(([, figure], i) => { cells[i].textContent = figures === null ? '–' : figures[figure] })
      cells.at(-1).textContent = total
      arrange($('rooms'), rooms.sort((a, b) => b.members - a.members).map(({ channel, members }) => room(channel, `${channel}: ${count(members, 'member')}`)))
    } catch (err) {
      say(err.message)
    }
  }

  if (!hasIntegerIds) for (const id of ['of-club', 'unban-user']) Object.assign($(id), { type: 'text', maxLength: 64 })
  $('of-club').onchange = () => { rows.clear(); void show() }
  $('unban').onsubmit = async (event) => {
    event.preventDefault()
    await act('Unbanned', 'unban', () => ({ clubId: readId($('of-club').value), userId: readId($('unban-user').value) }))()
  }
  setInterval(show, AGAIN)
  void show()
}
