-- Whatever arrived, broken or not: nothing is parsed here.
select 'prediction' as event_type, topic, kafka_timestamp, landed_at
from {{ source('raw', 'prediction_events') }}
{{ is_known() }}
union all
select 'label' as event_type, topic, kafka_timestamp, landed_at
from {{ source('raw', 'label_events') }}
{{ is_known() }}
