export { openCluster, type Cluster, type OpenClusterOptions } from './cluster.ts';
export { openHost, type Host, type OpenHostOptions } from './host.ts';
export { nearestHome } from './nearest-home.ts';
