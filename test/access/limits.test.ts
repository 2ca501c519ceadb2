import t, { type Test } from 'tap'
import { FailedAuthentications } from '../../lib/access/failed-authentications.js'
import { HostCalls, type Asker } from '../../lib/access/host-calls.js'
import { Admission, isRefusal, type AdmissionSettings, type Place } from '../../plugins/connections/admission.js'

const none: AdmissionSettings = { maxPerAddress: 0, maxPendingPerAddress: 0, limitPrivateAddresses: false, connectRate: 0, maxSockets: 0 }
const warnings: string[] = []
const admission = (settings: Partial<AdmissionSettings>): Admission => new Admission({ ...none, ...settings }, { warn: (_fields: object, text: string) => { warnings.push(text) } } as never)

const place = (outcome: ReturnType<Admission['admit']>): Place => {
  if (isRefusal(outcome)) throw new Error(outcome.message)
  return outcome
}
const refusal = (outcome: ReturnType<Admission['admit']>): number => isRefusal(outcome) ? outcome.status : 0

t.test('An address holds so many sockets, and so many that are not authenticated yet', async (t) => {
  const door = admission({ maxPerAddress: 3, maxPendingPerAddress: 2 })
  const first = place(door.admit('203.0.113.1'))
  place(door.admit('203.0.113.1'))
  t.equal(refusal(door.admit('203.0.113.1')), 429, 'two are pending')
  t.equal(refusal(door.admit('203.0.113.2')), 0, 'another address is not concerned')
  first.authenticated()
  const third = place(door.admit('203.0.113.1'))
  t.equal(refusal(door.admit('203.0.113.1')), 429, 'three are open')
  third.release()
  third.release()
  t.equal(refusal(door.admit('203.0.113.1')), 0, 'a place is given back once')
  t.equal(refusal(door.admit('203.0.113.1')), 429)
})

t.test('Private addresses are exempt unless the host sets limitPrivateAddresses', async (t) => {
  const open = admission({ maxPerAddress: 1 })
  place(open.admit('127.0.0.1'))
  t.equal(refusal(open.admit('127.0.0.1')), 0)
  const strict = admission({ maxPerAddress: 1, limitPrivateAddresses: true })
  place(strict.admit('127.0.0.1'))
  t.equal(refusal(strict.admit('127.0.0.1')), 429)
})

t.test('An IPv6 subscriber is one address, however many of its /64 it uses', async (t) => {
  const door = admission({ maxPerAddress: 1 })
  place(door.admit('2001:db8:1:2::1'))
  t.equal(refusal(door.admit('2001:db8:1:2:ffff::9')), 429)
  t.equal(refusal(door.admit('2001:db8:1:3::1')), 0)
})

t.test('A node takes so many sockets, and so many upgrades per second', async (t) => {
  const full = admission({ maxSockets: 1 })
  const only = place(full.admit('127.0.0.1'))
  const outcome = full.admit('127.0.0.1')
  t.match(outcome, { status: 503, retryAfter: Number })
  only.release()
  t.equal(refusal(full.admit('127.0.0.1')), 0)
  const slow = admission({ connectRate: 5 })
  const refused = Array.from({ length: 10 }, () => refusal(slow.admit('127.0.0.1'))).filter((status) => status === 503)
  t.ok(refused.length >= 4 && refused.length <= 5, `${refused.length}`)
})

/** From now on more time has passed, by the function that this returns. */
function movableTime (t: Test): (ms: number) => void {
  const { now } = performance
  t.teardown(() => { performance.now = now })
  let ahead = 0
  performance.now = () => now.call(performance) + ahead
  return (ms) => { ahead += ms }
}

t.test('One address that holds most of the sockets is logged once an hour, with advice', async (t) => {
  const advance = movableTime(t)
  const door = admission({})
  for (let i = 0; i < 200; i++) place(door.admit('203.0.113.1'))
  t.match(warnings, [/trustProxy/])
  t.equal(warnings.length, 1)
  advance(3600_000)
  place(door.admit('203.0.113.1'))
  t.equal(warnings.length, 2)
})

t.test('A client that guesses credentials is slowed down; recently accepted credentials are not', async (t) => {
  const failures = new FailedAuthentications(3)
  const address = failures.limitedAddress('203.0.113.1')
  failures.accepted(address, 'good')
  for (const guess of ['a', 'b', 'c']) {
    t.notOk(failures.isSuspect(address, guess))
    failures.refused(address, guess)
  }
  t.ok(failures.isSuspect(address, 'd'))
  t.notOk(failures.isSuspect(address, 'good'))
  t.notOk(failures.isSuspect(failures.limitedAddress('203.0.113.2'), 'd'))
  t.equal(failures.limitedAddress('127.0.0.1'), null)
  t.ok(failures.wasRefused('a'))
  t.notOk(failures.wasRefused('d'))
})

t.test('Failures count for a minute, a refusal holds for ten seconds, and an acceptance for ten minutes', async (t) => {
  const advance = movableTime(t)
  const failures = new FailedAuthentications(1)
  const address = failures.limitedAddress('203.0.113.1')
  failures.accepted(address, 'good')
  failures.refused(address, 'bad')
  t.ok(failures.wasRefused('bad') && failures.isSuspect(address, 'other'))
  advance(10_000)
  t.notOk(failures.wasRefused('bad'))
  t.ok(failures.isSuspect(address, 'other'))
  advance(50_000)
  t.notOk(failures.isSuspect(address, 'other'))
  advance(530_000)
  failures.refused(address, 'worse')
  t.notOk(failures.isSuspect(address, 'good'))
  advance(10_000)
  t.ok(failures.isSuspect(address, 'good'))
})

t.test('A suspect address has one call at a time, and otherwise gets RT_RATE_LIMITED', async (t) => {
  const calls = new HostCalls({ places: 20, timeout: 100 })
  const suspect = (): Asker => ({ owner: {}, tenant: 'x', holder: 'x', suspect: true })
  const stuck = Promise.resolve(calls.run(suspect(), async () => await new Promise(() => {})))
  const behind = Promise.resolve(calls.run(suspect(), async () => 'never'))
  t.equal(calls.running, 1)
  const outcomes = await Promise.allSettled([stuck, behind])
  t.match(outcomes[0], { status: 'rejected', reason: { code: 'RT_UNAVAILABLE' } })
  t.match(outcomes[1], { status: String })
  t.equal(calls.running + calls.waiting, 0)
})
