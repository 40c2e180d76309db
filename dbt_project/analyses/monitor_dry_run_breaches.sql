{#- What one rule, given by the statement's parameters, would find as of now: the rows that it would have in
    int_breaches_found, made by the same SQL, and written nowhere. -#}
with candidate_monitors as (

    {{ candidate_rule() }}

),

no_features as (

    select * from {{ ref('features') }}
    where false

),

candidate_rules as (

    {{ monitor_rules('candidate_monitors', 'no_features') }}

),

candidate_windows as (

    {{ monitored_windows('candidate_rules', ref('int_monitor_mutes')) }}

),

found as (

    {{ breaches_found('candidate_rules', 'candidate_windows', ref('int_monitor_mutes')) }}

)

select
    found.* except (breach_id),
    rules.remedy as remedy,
    rules.declaration as declaration
from found
left join candidate_rules as rules on found.monitor_name = rules.monitor_name
order by opened_at, model_version, segment_value, feature_name
