"""The reading service: findings over HTTP, and the web pages that ask for them.

guard.py     who may ask: host, origin, token; and the headers of every answer
uploads.py   files from a request's body into memory, never to disk, within limits
batching.py  what concurrent requests ask of the model, taken together
models.py    the model, or the models of a folder of runs
answers.py   what is answered to files, as OpenAPI describes it
descriptions.py  the same of models and runs
images.py    gray levels as PNG
reading.py   /v1/predict, /v1/heatmap, /v1/model
runs.py      /v1/runs: the table, the curves, the comparison and the images of runs
app.py       all of it together
server.py    uvicorn, its socket and how it stops

Research use only.
"""
