export KEY=ms_…   # the first start printed one

curl $host/v2/ingest/events -H "X-API-Key: $$KEY" \
  -H 'Content-Type: application/json' \
  -d '{"stream_id": "shop", "event_type": "purchase", "data": {"user": "ada", "amount": 12.5}}'

curl "$host/v2/query/events?stream_id=shop" -H "X-API-Key: $$KEY"
