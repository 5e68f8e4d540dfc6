/** The operations of the HTTP API of a network core alone. */

import { parsePolicyRules } from '../proxy/policy/rule.ts';
import { parseConditions } from '../stack/link/conditions.ts';
import { networkMetrics } from './metrics.ts';
import { networkRoutes } from './network-routes.ts';
import { openApiDocument } from './openapi.ts';
import type { CorePort } from './port.ts';
import { RequestError, type Route } from './route.ts';

export const coreRoutes: readonly Route<CorePort>[] = [
  ...networkRoutes,
  {
    method: 'PUT',
    path: '/v1/policy',
    summary: 'Other rules, in place of all that are in force; flows that are open and would be denied end',
    takes: 'PolicyRules',
    answers: 'Policy',
    answer: ({ platform, body }) => {
      const { rules } = (body ?? {}) as { rules?: unknown };
      if (typeof rules !== 'string') throw new RequestError(400, 'the body must have the text of the rules');
      try {
        platform.usePolicyRules(parsePolicyRules(rules));
      } catch (error) {
        throw new RequestError(400, (error as Error).message);
      }
      return { json: platform.policy() };
    },
  },
  {
    method: 'GET',
    path: '/v1/conditions',
    summary: "What makes the guests' network worse",
    answers: 'Conditions',
    answer: ({ platform }) => ({ json: { conditions: platform.conditions()?.text ?? '' } }),
  },
  {
    method: 'PUT',
    path: '/v1/conditions',
    summary: 'Other conditions, in place of all that are in force, at once',
    takes: 'Conditions',
    answers: 'Conditions',
    answer: ({ platform, body }) => {
      const { conditions } = (body ?? {}) as { conditions?: unknown };
      if (typeof conditions !== 'string') throw new RequestError(400, 'the body must have the text of the conditions');
      try {
        platform.useConditions(parseConditions(conditions));
      } catch (error) {
        throw new RequestError(400, (error as Error).message);
      }
      return { json: { conditions: platform.conditions()?.text ?? '' } };
    },
  },
  {
    method: 'GET',
    path: '/metrics',
    summary: 'Metrics in the text format of Prometheus',
    answers: 'Metrics',
    answer: ({ platform }) => ({
      text: networkMetrics(platform),
      contentType: 'text/plain; version=0.0.4; charset=utf-8',
    }),
  },
  {
    method: 'GET',
    path: '/openapi.json',
    summary: 'This description',
    answers: 'Document',
    answer: () => ({ json: openApiDocument(coreRoutes, 'that --api names') }),
  },
];
