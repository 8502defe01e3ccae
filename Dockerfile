# Trojan Noise for everybody who is not a Hugging Face Space:
#   docker build -t trojan-noise .                                  on a CPU
#   docker build -t trojan-noise --build-arg TORCH=cu130 .          on an NVIDIA GPU; then run it with --gpus all
#   docker run -p 127.0.0.1:7860:7860 -e LAB_TRAIN=everybody -v trojan-noise:/data trojan-noise
FROM python:3.12-slim

# cpu, or the CUDA that pytorch.org names for your driver: cu126, cu128, cu130
ARG TORCH=cpu

RUN useradd --create-home --uid 1000 lab \
    && mkdir /data \
    && chown lab:lab /data

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/$TORCH \
    && pip install --no-cache-dir -r requirements.txt

COPY lab lab
COPY assets assets
COPY checkpoints checkpoints
COPY app.py pyproject.toml README.md LICENSE NOTICE ./

USER lab
# LAB_COMPILE=0: this image has no compiler, and so the lab would look for one in vain
ENV LAB_HOME=/data \
    LAB_COMPILE=0 \
    HF_HOME=/data/huggingface \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    HEALTH_PATH=/healthz \
    PYTHONUNBUFFERED=1
VOLUME ["/data"]
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD python -c "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'] + os.environ['HEALTH_PATH'], timeout=8)"

CMD ["python", "app.py"]
