-- segment_sets
create table `marts`.`segment_sets` ON CLUSTER "monitoring" (...) engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by (tuple());
truncate table `marts`.`segment_sets` ON CLUSTER "monitoring";

-- stg_raw__label_events
create or replace view `marts`.`stg_raw__label_events` ON CLUSTER "monitoring" as (...);
create or replace view `marts`.`stg_raw__label_events` ON CLUSTER "monitoring" as (...);

-- int_judged_label_events
drop table if exists `marts`.`int_judged_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_judged_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
create table `marts`.`int_judged_label_events__dbt_tmp_local` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}') order by (tuple()) SETTINGS replicated_deduplication_window='0' empty as (...);
create or replace table `marts`.`int_judged_label_events__dbt_tmp` ON CLUSTER "monitoring" as `marts`.`int_judged_label_events__dbt_tmp_local` ENGINE = Distributed('monitoring', 'marts', 'int_judged_label_events__dbt_tmp_local', cityHash64(prediction_id));
insert into `marts`.`int_judged_label_events__dbt_tmp` ... SETTINGS insert_quorum=1;
drop table if exists `marts`.`int_judged_label_events_local` ON CLUSTER "monitoring";
rename table `marts`.`int_judged_label_events__dbt_tmp_local` to `marts`.`int_judged_label_events_local` ON CLUSTER "monitoring";
create or replace table `marts`.`int_judged_label_events` ON CLUSTER "monitoring" as `marts`.`int_judged_label_events_local` ENGINE = Distributed('monitoring', 'marts', 'int_judged_label_events_local', cityHash64(prediction_id));
drop table if exists `marts`.`int_judged_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_judged_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_judged_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_judged_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
create table `marts`.`int_judged_label_events__dbt_tmp_local` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}') order by (tuple()) SETTINGS replicated_deduplication_window='0' empty as (...);
create or replace table `marts`.`int_judged_label_events__dbt_tmp` ON CLUSTER "monitoring" as `marts`.`int_judged_label_events__dbt_tmp_local` ENGINE = Distributed('monitoring', 'marts', 'int_judged_label_events__dbt_tmp_local', cityHash64(prediction_id));
insert into `marts`.`int_judged_label_events__dbt_tmp` ... SETTINGS insert_quorum=1;
SYSTEM SYNC REPLICA ON CLUSTER "monitoring" marts.int_judged_label_events_local;
EXCHANGE TABLES `marts`.`int_judged_label_events__dbt_tmp_local` AND `marts`.`int_judged_label_events_local` ON CLUSTER "monitoring";
create or replace table `marts`.`int_judged_label_events` ON CLUSTER "monitoring" as `marts`.`int_judged_label_events_local` ENGINE = Distributed('monitoring', 'marts', 'int_judged_label_events_local', cityHash64(prediction_id));
drop table if exists `marts`.`int_judged_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_judged_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;

-- int_run_ledger
create table `marts`.`int_run_ledger` ON CLUSTER "monitoring" engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by ((model_name, run_version)) SETTINGS replicated_deduplication_window='0' empty as (...);
insert into `marts`.`int_run_ledger` ...;
insert into `marts`.`int_run_ledger` ...;
insert into `marts`.`int_run_ledger` ...;
insert into `marts`.`int_run_ledger` ...;
insert into `marts`.`int_run_ledger` ...;
insert into `marts`.`int_run_ledger` ...;
insert into `marts`.`int_run_ledger` ...;

-- fct_retraining_runs
create table `marts`.`fct_retraining_runs` ON CLUSTER "monitoring" (...) engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by ((model_name, run_id)) SETTINGS replicated_deduplication_window='0';
insert into `marts`.`fct_retraining_runs` ...;
create table `marts`.`fct_retraining_runs__dbt_backup` ON CLUSTER "monitoring" (...) engine = ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}') order by ((model_name, run_id)) SETTINGS replicated_deduplication_window='0';
insert into `marts`.`fct_retraining_runs__dbt_backup` ...;
SYSTEM SYNC REPLICA ON CLUSTER "monitoring" marts.fct_retraining_runs;
EXCHANGE TABLES `marts`.`fct_retraining_runs__dbt_backup` AND `marts`.`fct_retraining_runs` ON CLUSTER "monitoring";
drop table if exists `marts`.`fct_retraining_runs__dbt_backup` ON CLUSTER "monitoring" SYNC;

-- int_label_events
drop table if exists `marts`.`int_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
create table `marts`.`int_label_events__dbt_tmp_local` ON CLUSTER "monitoring" engine = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', run_version) order by ((prediction_id, observed_at, source, value_hash)) SETTINGS replicated_deduplication_window='0' empty as (...);
create or replace table `marts`.`int_label_events__dbt_tmp` ON CLUSTER "monitoring" as `marts`.`int_label_events__dbt_tmp_local` ENGINE = Distributed('monitoring', 'marts', 'int_label_events__dbt_tmp_local', cityHash64(prediction_id));
insert into `marts`.`int_label_events__dbt_tmp` ... SETTINGS insert_quorum=1;
drop table if exists `marts`.`int_label_events_local` ON CLUSTER "monitoring";
rename table `marts`.`int_label_events__dbt_tmp_local` to `marts`.`int_label_events_local` ON CLUSTER "monitoring";
create or replace table `marts`.`int_label_events` ON CLUSTER "monitoring" as `marts`.`int_label_events_local` ENGINE = Distributed('monitoring', 'marts', 'int_label_events_local', cityHash64(prediction_id));
drop table if exists `marts`.`int_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
insert into `marts`.`int_label_events` ... SETTINGS insert_quorum=1;
drop table if exists `marts`.`int_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
create table `marts`.`int_label_events__dbt_tmp_local` ON CLUSTER "monitoring" engine = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', run_version) order by ((prediction_id, observed_at, source, value_hash)) SETTINGS replicated_deduplication_window='0' empty as (...);
create or replace table `marts`.`int_label_events__dbt_tmp` ON CLUSTER "monitoring" as `marts`.`int_label_events__dbt_tmp_local` ENGINE = Distributed('monitoring', 'marts', 'int_label_events__dbt_tmp_local', cityHash64(prediction_id));
insert into `marts`.`int_label_events__dbt_tmp` ... SETTINGS insert_quorum=1;
SYSTEM SYNC REPLICA ON CLUSTER "monitoring" marts.int_label_events_local;
EXCHANGE TABLES `marts`.`int_label_events__dbt_tmp_local` AND `marts`.`int_label_events_local` ON CLUSTER "monitoring";
create or replace table `marts`.`int_label_events` ON CLUSTER "monitoring" as `marts`.`int_label_events_local` ENGINE = Distributed('monitoring', 'marts', 'int_label_events_local', cityHash64(prediction_id));
drop table if exists `marts`.`int_label_events__dbt_tmp` ON CLUSTER "monitoring" SYNC;
drop table if exists `marts`.`int_label_events__dbt_tmp_local` ON CLUSTER "monitoring" SYNC;
