import type { TemplateInput } from '../../shared/template.ts';
import type { TemplateVariables } from '../config.ts';

/** The template that a request which names none runs on. */
export const DEFAULT_TEMPLATE = 'default';

/**
 * The `default` template as the environment describes it: the names of the services that people move from. Where there
 * is a templates file it counts alone, and `setVariables` tells what was set for nothing.
 */
export function defaultTemplate(variables: TemplateVariables): TemplateInput {
  const { POOL_SIZE, MAX_EXEC_TIMEOUT_MS, CPU_TIME_LIMIT_SEC, MEMORY_LIMIT_MB } = variables;
  const { KUBERNETES_SERVICE_ACCOUNT, KUBERNETES_IMAGE, DOCKER_IMAGE } = variables;
  const image = DOCKER_IMAGE ?? KUBERNETES_IMAGE;
  return {
    name: DEFAULT_TEMPLATE,
    languages: ['python', 'bash', 'node'],
    ...(image === undefined ? {} : { image }),
    ...(POOL_SIZE === undefined ? {} : { pool: { min: POOL_SIZE, max: POOL_SIZE } }),
    ...(KUBERNETES_SERVICE_ACCOUNT === undefined
      ? {}
      : { kubernetes: { service_account: KUBERNETES_SERVICE_ACCOUNT } }),
    resources: {
      ...(MAX_EXEC_TIMEOUT_MS === undefined ? {} : { timeout_ms: MAX_EXEC_TIMEOUT_MS }),
      ...(CPU_TIME_LIMIT_SEC === undefined ? {} : { cpu_seconds: CPU_TIME_LIMIT_SEC }),
      ...(MEMORY_LIMIT_MB === undefined ? {} : { memory_mb: MEMORY_LIMIT_MB }),
    },
  };
}

/** Names of the variables that would shape the `default` template. */
export function setVariables(variables: TemplateVariables): string[] {
  return Object.entries(variables).flatMap(([name, value]) => (value === undefined ? [] : [name]));
}
