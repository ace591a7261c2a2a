# The dashboard in a container: docker build -t poisonlab . for processors,
# docker build --target cuda -t poisonlab:cuda . for NVIDIA GPUs.
# docker run -p 127.0.0.1:8501:8501 -v poisonlab:/results poisonlab

FROM python:3.12-slim AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    POISONLAB_RESULTS=/results \
    POISONLAB_DATA=/data \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_HEADLESS=true
RUN useradd --create-home --uid 1000 poisonlab \
    && mkdir /results /data \
    && chown poisonlab /results /data
WORKDIR /app
VOLUME ["/results", "/data"]
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]

FROM base AS cuda
# the wheels of PyPI bring CUDA with them
COPY . .
RUN pip install .
USER 1000
CMD ["python", "app.py"]

FROM base AS cpu
COPY . .
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install .
USER 1000
CMD ["python", "app.py"]
