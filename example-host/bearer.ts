import type { FastifyRequest } from 'fastify'

/** The bearer token of a request to the host's own routes. */
export const bearerOf = ({ headers: { authorization } }: FastifyRequest): string | undefined => /^Bearer (\S+)$/.exec(authorization ?? '')?.[1]
