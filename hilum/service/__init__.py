"""The service: findings over HTTP, and web pages to read images and compare runs. Research use only.

server.py          uvicorn, its socket, start and stop
app.py             the application: routes, pages, middleware
middleware.py      who may ask, the headers of every answer, metrics
routes_predict.py  /v1/predict, /v1/heatmap, /v1/model
routes_runs.py     /v1/runs: table, curves, errors, images and comparison of runs
model_pool.py      the open models, each with its queue
uploads.py         files from a request's body into memory, within limits
errors.py          errors as JSON
schemas.py         the JSON answers; examples.json has an example of each
web/               the pages
"""
