-- whole
drop table if exists `marts`.`whole__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`whole__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`whole__dbt_python_result` ...;
drop table if exists `marts`.`whole` ON CLUSTER "monitoring";
rename table `marts`.`whole__dbt_python_result` to `marts`.`whole` ON CLUSTER "monitoring";
drop table if exists `marts`.`whole__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`whole__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`whole__dbt_python_result` ...;
SYSTEM SYNC REPLICA ON CLUSTER "monitoring" marts.whole;
EXCHANGE TABLES `marts`.`whole__dbt_python_result` AND `marts`.`whole` ON CLUSTER "monitoring";
drop table if exists `marts`.`whole__dbt_python_result` ON CLUSTER "monitoring" SYNC;

-- appended
drop table if exists `marts`.`appended__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`appended__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`appended__dbt_python_result` ...;
drop table if exists `marts`.`appended` ON CLUSTER "monitoring";
rename table `marts`.`appended__dbt_python_result` to `marts`.`appended` ON CLUSTER "monitoring";
drop table if exists `marts`.`appended__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`appended__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`appended__dbt_python_result` ...;
insert into `marts`.`appended` ...;
drop table if exists `marts`.`appended__dbt_python_result` ON CLUSTER "monitoring" SYNC;

-- replaced_by_key
drop table if exists `marts`.`replaced_by_key__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`replaced_by_key__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`replaced_by_key__dbt_python_result` ...;
drop table if exists `marts`.`replaced_by_key` ON CLUSTER "monitoring";
rename table `marts`.`replaced_by_key__dbt_python_result` to `marts`.`replaced_by_key` ON CLUSTER "monitoring";
drop table if exists `marts`.`replaced_by_key__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`replaced_by_key__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`replaced_by_key__dbt_python_result` ...;
delete from `marts`.`replaced_by_key` where ... SETTINGS optimize_on_insert=0;
insert into `marts`.`replaced_by_key` ... SETTINGS optimize_on_insert=0;
drop table if exists `marts`.`replaced_by_key__dbt_python_result` ON CLUSTER "monitoring" SYNC;

-- replaced_by_partition
drop table if exists `marts`.`replaced_by_partition__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`replaced_by_partition__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) partition by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`replaced_by_partition__dbt_python_result` ...;
drop table if exists `marts`.`replaced_by_partition` ON CLUSTER "monitoring";
rename table `marts`.`replaced_by_partition__dbt_python_result` to `marts`.`replaced_by_partition` ON CLUSTER "monitoring";
drop table if exists `marts`.`replaced_by_partition__dbt_python_result` ON CLUSTER "monitoring" SYNC;
create table `marts`.`replaced_by_partition__dbt_python_result` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (day) partition by (day) SETTINGS replicated_deduplication_window='0' empty as (...);
INSERT INTO `marts`.`replaced_by_partition__dbt_python_result` ...;
alter table `marts`.`replaced_by_partition` replace partition id '2' from `marts`.`replaced_by_partition__dbt_python_result`, replace partition id '3' from `marts`.`replaced_by_partition__dbt_python_result`;
drop table if exists `marts`.`replaced_by_partition__dbt_python_result` ON CLUSTER "monitoring" SYNC;
