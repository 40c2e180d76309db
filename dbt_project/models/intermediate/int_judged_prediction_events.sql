{#- Parsing is the dearest part of a run: each event is parsed once for all models that take it in. Made
    anew by every run, with all that one of them has not read yet. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    full_refresh=true,
    sharding_key='cityHash64(prediction_id)',
    order_by='tuple()',
) }}

with judged as (

    {{ events_to_judge(
        'prediction_events', ['int_predictions', 'int_duplicate_predictions', 'int_rejected_events']
    ) }}

),

final as (

    -- Only of a rejected event are the bytes wanted.
    select
        * except (raw_value),
        if(judged.reject_reason = '', null, judged.raw_value) as raw_value
    from judged

)

select * from final
