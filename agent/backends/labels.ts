/** Labels on everything that Podgate makes where others make things too. */
export const LABEL = {
  managedBy: 'app.kubernetes.io/managed-by',
  installation: 'podgate.dev/installation',
  instance: 'podgate.dev/instance',
  template: 'podgate.dev/template',
  templateHash: 'podgate.dev/template-hash',
} as const;
export const MANAGED_BY = 'podgate';
