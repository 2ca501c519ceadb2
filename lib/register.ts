/**
 * Declares the kind of ids and the custom events of a host for all types, by declaration merging:
 * `declare module 'fastify-realtime' { interface Register { ids: 'string', events: typeof events } }`.
 *
 * - `ids`: `'string'` if the option `ids` is; the ids of tenants and users are then strings in options, APIs and events.
 * - `events`: the result of `defineEvents`; it types `publish` and `emit`.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the host
export interface Register {}
