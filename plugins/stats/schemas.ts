import { Type } from '@sinclair/typebox'
import { errorResponses, TenantStats } from '../../lib/schemas.js'

export const rest = {
  'GET /stats': {
    tags: ['stats'],
    summary: 'The figures of the caller’s tenant, over all nodes',
    response: { ...errorResponses, 200: Type.Object({ data: TenantStats }) }
  }
} as const
