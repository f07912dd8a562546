export { openCluster, type Cluster, type OpenClusterOptions } from './cluster.ts';
