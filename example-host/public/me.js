// The user's own name, status and status text.
import { $, bidi, face, make } from '/dom.js'
import { isSmall } from '/place.js'

export function showMe ({ client, state, toast }) {
  const { me } = state
  const [status, text] = [$('status'), $('status-text')]
  $('face').replaceChildren(face(me.userId, me.name))
  $('me').replaceChildren(make('strong', {}, bidi(me.name)), make('span', { textContent: `Club ${me.clubId} · user ${me.userId}` }))
  // The same user on another device: the form of the new window is filled in.
  $('second').href = `/?${new URLSearchParams({ name: me.name, userId: me.userId, clubId: me.clubId })}`

  async function update () {
    try {
      await client.updatePresence(status.value, {
        device: isSmall() ? 'mobile' : 'desktop',
        ...text.value.trim() === '' ? {} : { data: { text: text.value.trim() } }
      })
    } catch (err) {
      toast(`Your status is not changed: ${err.message}`)
      show(true)
    }
  }
  status.addEventListener('change', update)
  text.addEventListener('change', update)
  text.addEventListener('keydown', (event) => { if (event.key === 'Enter') text.blur() })

  function show (isForced = false) {
    const own = state.people.get(me.userId)
    if (own === undefined || own.status === 'offline') return
    status.value = own.status
    if (isForced || document.activeElement !== text) text.value = own.text
    $('unseen').hidden = own.status !== 'invisible'
  }
  state.onChange(() => show())

  $('broadcast').hidden = me.admin !== true
  $('broadcast').addEventListener('submit', async (event) => {
    event.preventDefault()
    try {
      await client.send('broadcast:message', { message: $('announcement').value })
      $('broadcast').reset()
    } catch (err) {
      toast(err.message)
    }
  })
}
