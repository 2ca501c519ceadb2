/**
 * What the types of a host depend on, by declaration merging:
 * `declare module 'fastify-realtime' { interface Register { ids: 'string', events: typeof events } }`.
 *
 * - `ids`: `'string'` where the option `ids` is; the ids of tenants and users are then strings in options, APIs and events.
 * - `events`: what `defineEvents` gave; `publish` and `emit` are typed by it.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the host
export interface Register {}
